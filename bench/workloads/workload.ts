export type Figures = Record<string, number>

/** One thing that is measured of one side; the rows of a table have the same sides beside each other. */
export interface Cell {
  readonly row: string
  readonly side: string
  measure (): Promise<Figures>
}

/** What a figure must keep; with `to` it is about the ratio of two sides. A floor is kept, a goal is aimed at. */
export interface Bar {
  readonly row: string
  readonly figure: string
  readonly of: string
  readonly to?: string
  readonly better: 'lower' | 'higher'
  readonly floor?: number
  readonly goal?: number
}

export interface Workload {
  /** Units of the figures by name, in the order of the columns. */
  readonly units: Record<string, string>
  readonly cells: readonly Cell[]
  readonly bars: readonly Bar[]
}
