import { runService } from '@starter/service';
import { userService } from './index.js';

await runService(userService);
