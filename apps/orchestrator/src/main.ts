import { runService } from '@starter/service';
import { orchestrator } from './index.js';

await runService(orchestrator);
