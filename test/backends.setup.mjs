export { startBackends as default } from './backends.mjs';
