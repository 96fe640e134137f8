/** This e-mail will be refused however often it is tried. */
export class PermanentMailError extends Error {
  override readonly name = 'PermanentMailError';
}

/** The same e-mail may go through later. The server may have taken it all the same: its answer can get lost. */
export class TransientMailError extends Error {
  override readonly name = 'TransientMailError';
}
