export { stopBackends as default } from './backends.mjs';
