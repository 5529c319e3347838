/*
 * What a file says that matters to the audit, whatever its language. The scanners write it, the rules read it.
 */

export interface Place { readonly file: string, readonly line: number }

/** A class, or an object that is used like one. */
export interface ClassFact extends Place {
  readonly name: string
  readonly bases: readonly string[]
  readonly methods: ReadonlySet<string>
  /** Keeps a table, list or set of its own. */
  readonly keeps: boolean
}

/** What becomes of a call's result. */
export type Handling = 'awaited' | 'used' | 'dropped' | 'swallowed'

export interface Argument {
  /** The last name of an identifier or a chain of them: runId of ctx.run.runId. '' for anything else. */
  readonly name: string
  /** The keyword, in languages that have such. */
  readonly keyword?: string
  /** The text of a string. */
  readonly text?: string
  /** The type of the message that it holds, JSON.stringify seen through. */
  readonly event?: string
  /** For an object: the names of run ids among its values, by their keys. */
  readonly fields?: ReadonlyMap<string, string>
}

export interface CallFact extends Place {
  /** The last name before the method, without #; '' for a plain function. */
  readonly receiver: string
  readonly method: string
  readonly args: readonly Argument[]
  readonly handling: Handling
  /** In which class and function it is; '' for none. Functions have ids of their own. */
  readonly inClass: string
  readonly inFunction: string
  /** Reached also when something before it throws. */
  readonly isSafe: boolean
  /** Its result goes straight into a call of this name. */
  readonly within: string
}

export interface NewFact extends Place {
  readonly className: string
  /** The variable or field that takes it. */
  readonly into: string
  readonly inClass: string
  /** The methods in whose arguments it is, innermost first. */
  readonly within: readonly string[]
}

export interface FileFacts {
  readonly file: string
  readonly classes: ClassFact[]
  readonly calls: CallFact[]
  readonly news: NewFact[]
  /** Variables, fields and parameters whose class the file tells. */
  readonly kinds: Map<string, string>
  /** Where local names come from. */
  readonly imports: Map<string, { readonly from: string, readonly name: string }>
  /** What it passes on: name '*' for everything. */
  readonly exports: Array<{ readonly from: string, readonly name: string, readonly as: string }>
}

export function emptyFacts (file: string): FileFacts {
  return { file, classes: [], calls: [], news: [], kinds: new Map(), imports: new Map(), exports: [] }
}
