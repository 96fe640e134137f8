import { runService } from '@starter/service';
import { worker } from './worker.js';

await runService(worker);
