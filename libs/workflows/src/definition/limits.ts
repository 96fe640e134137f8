/** How large a workflow may be; what is larger is refused, with its place. */
export interface WorkflowLimits {
  /** Length of a definition as JSON, in characters. */
  readonly definitionSize: number;
  /** Nodes of a definition, and conditions in them. */
  readonly nodes: number;
  /** Nodes inside each other. */
  readonly depth: number;
  /** Arrays and objects of a definition, or of an input, inside each other. */
  readonly jsonDepth: number;
  /** Members of one group or forEach. */
  readonly members: number;
  /** What one workflow may come to. */
  readonly instance: {
    /** Members of all of its groups, those in members of others included. */
    readonly members: number;
    readonly events: number;
    /** Of its events as JSON: it is kept in memory while it runs. */
    readonly bytes: number;
  };
  /** About so much at most in one transaction: large groups are begun, and undone, in parts. */
  readonly part: { readonly events: number; readonly bytes: number };
  /** Attempts of one task. */
  readonly attempts: number;
  /** Events of one kind that are kept until a node waits for them. */
  readonly keptEvents: number;
  /** Of one event, in bytes as JSON: so large may a command, the items of a forEach or the input of a sub-workflow become. */
  readonly eventBytes: number;
  /** The longest sleep, timeout or backoff, in milliseconds. */
  readonly durationMs: number;
}

export const defaultLimits: WorkflowLimits = {
  definitionSize: 4_000_000,
  nodes: 20_000,
  depth: 50,
  jsonDepth: 500,
  members: 10_000,
  instance: { members: 50_000, events: 500_000, bytes: 64_000_000 },
  part: { events: 500, bytes: 4_000_000 },
  attempts: 100,
  keptEvents: 1_000,
  eventBytes: 990_000,
  durationMs: 366 * 86_400_000,
};

/** What comes by HTTP is checked while other requests wait: no step of it may take long. Large values go into the input. */
export const requestLimits: WorkflowLimits = { ...defaultLimits, definitionSize: 250_000, nodes: 5_000 };
