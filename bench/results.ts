import { median } from './statistics.js'
import type { Bar, Figures, Workload } from './workloads/workload.js'

export interface Result extends Omit<Workload, 'cells'> {
  readonly workload: string
  readonly cells: ReadonlyArray<{ readonly row: string, readonly side: string, readonly rounds: readonly Figures[] }>
}

export interface Results {
  readonly date: string
  readonly commit: string
  readonly minutes: number
  readonly rounds: number
  /** Whose figures they are: the machine and what ran on it. */
  readonly machine: Readonly<Record<string, string>>
  readonly results: readonly Result[]
}

export interface Table { readonly head: readonly string[], readonly rows: ReadonlyArray<readonly string[]> }

export interface Spread { readonly median: number, readonly low: number, readonly high: number }

/** Of the rounds; undefined when this side has no such figure. */
export function spreadOf (result: Result, row: string, side: string, figure: string): Spread | undefined {
  const values = valuesOf(result, row, side, figure)
  return values.length === 0 ? undefined : { median: median(values), low: Math.min(...values), high: Math.max(...values) }
}

function valuesOf ({ cells }: Result, row: string, side: string, figure: string): number[] {
  const cell = cells.find((cell) => cell.row === row && cell.side === side)
  return cell?.rounds.flatMap((figures) => figures[figure] ?? []) ?? []
}

/** Each figure of the sides beside each other: the median of the rounds, with the lowest and the highest. */
export function figuresTable (result: Result): Table {
  const rows = new Set(result.cells.map(({ row }) => row))
  const sides = [...new Set(result.cells.map(({ side }) => side))]
  return {
    head: ['', ...sides],
    rows: [...rows].flatMap((row) => Object.entries(result.units).flatMap(([figure, unit]) => {
      const spreads = sides.map((side) => spreadOf(result, row, side, figure))
      if (spreads.every((spread) => spread === undefined)) return []
      return [[`${row}: ${unit}`, ...spreads.map((spread) => spread === undefined ? '' : `${round(spread.median)} (${round(spread.low)} to ${round(spread.high)})`)]]
    }))
  }
}

/** What is to be kept, and whether it is. A ratio of two sides is the median of the rounds' ratios. */
export function barsTable (results: readonly Result[]): Table {
  return {
    head: ['', 'measured', 'floor', 'goal', ''],
    rows: results.flatMap((result) => result.bars.map((bar) => {
      const { row, figure, of, to, better, floor, goal } = bar
      const sign = better === 'lower' ? '≤' : '≥'
      const measured = measuredFor(result, bar)
      return [
        `${result.workload}, ${row}: ${result.units[figure]}, ${of}${to === undefined ? '' : ` / ${to}`}`,
        round(measured),
        floor === undefined ? '' : `${sign} ${round(floor)}`,
        goal === undefined ? '' : `${sign} ${round(goal)}`,
        verdict(bar, measured)
      ]
    }))
  }
}

function measuredFor (result: Result, { row, figure, of, to }: Bar): number {
  const values = valuesOf(result, row, of, figure)
  return median(to === undefined ? values : valuesOf(result, row, to, figure).map((other, i) => values[i]! / other))
}

function verdict ({ better, floor, goal }: Bar, measured: number): string {
  const keeps = (limit: number): boolean => better === 'lower' ? measured <= limit : measured >= limit
  if (goal !== undefined && keeps(goal)) return 'goal reached'
  if (floor === undefined) return goal === undefined ? '' : 'goal not reached'
  return keeps(floor) ? 'kept' : 'missed'
}

/** Three digits are more than a second run would give again. */
export function round (value: number): string {
  return value >= 1_000 ? Math.round(value).toLocaleString('en') : String(Number(value.toPrecision(3)))
}
