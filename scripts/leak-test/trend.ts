/** A line through points by least squares, and between which slopes the true one lies. */
export interface Trend {
  readonly slope: number
  readonly low: number
  readonly high: number
  /** How far points lie from the line: their standard deviation. */
  readonly noise: number
}

export interface Point { readonly x: number, readonly y: number }

/** Two-sided. */
export const CONFIDENCE = 0.99
/** Of the normal distribution, at (1 + CONFIDENCE) / 2. */
const Z = 2.5758293035489004
/** Fewer points leave too much to chance. */
export const FEWEST_POINTS = 6

/** @throws Error for fewer than FEWEST_POINTS points */
export function trendOf (points: readonly Point[]): Trend {
  const { length } = points
  if (length < FEWEST_POINTS) throw new Error(`A trend needs ${FEWEST_POINTS} points, not ${length}`)
  const middle = points.reduce((sum, { x }) => sum + x, 0) / length
  const mean = points.reduce((sum, { y }) => sum + y, 0) / length
  const spread = points.reduce((sum, { x }) => sum + (x - middle) ** 2, 0)
  const slope = points.reduce((sum, { x, y }) => sum + (x - middle) * (y - mean), 0) / spread
  const freedom = length - 2
  const noise = Math.sqrt(points.reduce((sum, { x, y }) => sum + (y - mean - slope * (x - middle)) ** 2, 0) / freedom)
  const margin = quantileOfT(freedom) * noise / Math.sqrt(spread)
  return { slope, low: slope - margin, high: slope + margin, noise }
}

/** Of Student's t distribution at (1 + CONFIDENCE) / 2, by Cornish and Fisher's expansion: within 2 % from 4 degrees of freedom on. */
export function quantileOfT (freedom: number): number {
  return Z +
    (Z ** 3 + Z) / (4 * freedom) +
    (5 * Z ** 5 + 16 * Z ** 3 + 3 * Z) / (96 * freedom ** 2) +
    (3 * Z ** 7 + 19 * Z ** 5 + 17 * Z ** 3 - 15 * Z) / (384 * freedom ** 3)
}

/**
 * The smallest leak that counts, in bytes per run or connection: an entry of a Map, 50 bytes or more, in the rarest of the
 * ways in which a connection comes and goes or a run ends, which is one of 32.
 */
export const SMALLEST_LEAK = 2

/** What a heap may grow by once while it finds its level: code that is compiled, tables that double. Bytes. */
const LEVEL_BYTES = 512 * 1024

/**
 * clean: even the steepest slope that fits is less than the smallest leak. leaks: even the flattest one is more, also over
 * the first and over the second half alone, since a leak goes on and a heap that finds its level does not; and it adds up to
 * more than that may take. Anything else is open: these rounds cannot tell.
 */
export type Verdict = 'clean' | 'leaks' | 'open'

export function judge (points: readonly Point[]): Verdict {
  const { low, high } = trendOf(points)
  if (high < SMALLEST_LEAK) return 'clean'
  const half = Math.floor(points.length / 2)
  const goesOn = [points, points.slice(0, -half), points.slice(half)].every((part) => trendOf(part).low > SMALLEST_LEAK)
  return goesOn && low * (points.at(-1)!.x - points[0]!.x) > LEVEL_BYTES ? 'leaks' : 'open'
}
