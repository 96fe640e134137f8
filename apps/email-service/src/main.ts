import { runService } from '@starter/service';
import { emailService } from './index.js';

await runService(emailService);
