import { missingBackends } from './backends.mjs';

/** Ends the output with what did not run and why, and then the one line that scripts read. */
export default class SummaryReporter {
  onRunComplete(_contexts, results) {
    const failed = results.numFailedTests + results.numRuntimeErrorTestSuites;
    const skipped = results.numPendingTests + results.numTodoTests;
    const lines = [];
    for (const { title, message, broken } of missingBackends) {
      lines.push(
        '',
        `!!! ${title} ${broken ? 'DID NOT START' : 'IS MISSING'}: every test that needs it was skipped.`,
        message,
      );
    }
    if (this.getLastError()) lines.push('', '!!! This run therefore counts as failed.');
    lines.push('', `${results.numPassedTests} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`);
    // Jest prints its own summary after every other reporter.
    process.once('exit', () => process.stdout.write(`${lines.join('\n')}\n`));
  }

  /** Jest fails the run when this returns an error: a machine that checks our work must not skip any of it. */
  getLastError() {
    const inCi = process.env.CI !== undefined && process.env.CI !== '' && process.env.CI !== 'false';
    const fatal = missingBackends.filter(({ broken }) => broken || inCi);
    return fatal.length > 0 ? new Error(`Backends missing: ${fatal.map(({ title }) => title).join(', ')}`) : undefined;
  }
}
