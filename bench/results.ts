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
  readonly machine: Record<string, string>
  readonly results: readonly Result[]
}

function valuesOf ({ cells }: Result, row: string, side: string, figure: string): number[] {
  const cell = cells.find((cell) => cell.row === row && cell.side === side)
  if (cell === undefined) throw new Error(`'${side}' has no '${row}'`)
  return cell.rounds.flatMap((figures) => figures[figure] ?? [])
}

/** Medians with the lowest and the highest, and ours as a ratio of each peer: the median of the rounds' ratios. */
export function figuresTable (result: Result): string {
  const [first, ...units] = Object.entries(result.units)
  const header = ['', '', first![1], 'ours / this', ...units.map(([, unit]) => unit)]
  const rows = result.cells.map(({ row, side }) => {
    const show = (figure: string): string => withSpread(valuesOf(result, row, side, figure))
    return [row, side, show(first![0]), ratioToOurs(result, row, side, first![0]), ...units.map(([figure]) => show(figure))]
  })
  return table([header, ...rows])
}

function ratioToOurs (result: Result, row: string, side: string, figure: string): string {
  const isBeside = !side.startsWith('ours') && result.cells.some((cell) => cell.row === row && cell.side === 'ours')
  return !isBeside || valuesOf(result, row, side, figure).length === 0 ? '' : round(ratio(result, { row, figure, of: 'ours', to: side }))
}

function ratio (result: Result, { row, figure, of, to }: Pick<Bar, 'row' | 'figure' | 'of' | 'to'>): number {
  const values = valuesOf(result, row, of, figure)
  return median(to === undefined ? values : valuesOf(result, row, to, figure).map((other, i) => values[i]! / other))
}

/** What was to be kept, and whether it was. */
export function barsTable (results: readonly Result[]): string {
  const rows = results.flatMap((result) => result.bars.map((bar) => {
    const { row, figure, of, to, better, floor, goal } = bar
    const measured = ratio(result, bar)
    const keeps = (limit: number): boolean => better === 'lower' ? measured <= limit : measured >= limit
    const sign = better === 'lower' ? '≤' : '≥'
    const verdict = goal !== undefined && keeps(goal) ? 'goal' : floor === undefined ? 'below the goal' : keeps(floor) ? 'kept' : 'missed'
    return [
      `${result.workload}, ${row}`,
      `${of}${to === undefined ? '' : ` / ${to}`}, ${result.units[figure]}`,
      round(measured),
      floor === undefined ? '' : `${sign} ${round(floor)}`,
      goal === undefined ? '' : `${sign} ${round(goal)}`,
      verdict
    ]
  }))
  return table([['', '', 'measured', 'floor', 'goal', ''], ...rows])
}

function withSpread (values: readonly number[]): string {
  if (values.length === 0) return ''
  return `${round(median(values))} (${round(Math.min(...values))} to ${round(Math.max(...values))})`
}

export function round (value: number): string {
  if (value >= 1_000) return Math.round(value).toLocaleString('en')
  return String(Number(value.toPrecision(3)))
}

/** Markdown, that can be read on a terminal too. */
export function table (rows: ReadonlyArray<readonly string[]>): string {
  const widths = rows[0]!.map((_, column) => Math.max(1, ...rows.map((row) => row[column]!.length)))
  const line = (row: readonly string[]): string => `| ${row.map((cell, i) => cell.padEnd(widths[i]!)).join(' | ')} |`
  const [header, ...body] = rows
  return [line(header!), `|${widths.map((width) => '-'.repeat(width + 2)).join('|')}|`, ...body.map(line)].join('\n')
}
