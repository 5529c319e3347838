/**
 * Charts for the docs: results in, SVG out. The same results give the same bytes, and each chart brings its own background,
 * light or dark as the reader's system is, so that it can be read on every page.
 */
import * as Plot from '@observablehq/plot'
import { JSDOM } from 'jsdom'

export interface ChartOptions {
  title: string
  /** What the horizontal axis shows, with its unit. */
  x: string
  /** What the vertical axis shows, with its unit. */
  y: string
  /** Logarithmic, for values over several magnitudes; all of them above zero. */
  xScale?: 'linear' | 'log'
  yScale?: 'linear' | 'log'
  /** The names of the series in the order of their colours; as they first appear in the data by default. */
  series?: readonly string[]
  /** A dashed line across, say a limit. */
  limit?: number
  width?: number
  height?: number
}

export interface Point { x: number, y: number, series?: string }
export interface Bin { from: number, to: number, count: number }
/** One bar; `low` and `high` draw its whisker, bars of one group stand together. */
export interface Bar { group: string, value: number, series?: string, low?: number, high?: number }

type Plotted = NonNullable<Plot.PlotOptions['marks']>
type Scales = Pick<Plot.PlotOptions, 'x' | 'y' | 'fx'>

const COLOURS = { light: ['#0550ae', '#bc4c00', '#116329', '#8250df', '#6e7781'], dark: ['#79c0ff', '#ffa657', '#7ee787', '#d2a8ff', '#8b949e'] }

/** Lines over time, or one value over another; a point at every value where there are few. */
export function lineChart (points: readonly Point[], options: ChartOptions): string {
  const series = seriesOf(points, options)
  const stroke = (point: Point): string => point.series ?? ''
  return draw(options, series, {
    x: axisOf(options.xScale, options.x),
    y: axisOf(options.yScale)
  }, [
    Plot.lineY(points, { x: 'x', y: 'y', stroke, strokeWidth: 2 }),
    points.length <= 30 * series.length ? Plot.dot(points, { x: 'x', y: 'y', fill: stroke, r: 3 }) : null
  ])
}

/** How many values fall between which two. */
export function histogram (bins: readonly Bin[], options: ChartOptions): string {
  return draw(options, [''], {
    x: { ...axisOf(options.xScale, options.x), ticks: [...new Set(bins.flatMap(({ from, to }) => [from, to]))] },
    y: axisOf(options.yScale)
  }, [Plot.rectY(bins, { x1: 'from', x2: 'to', y: 'count', fill: () => '', inset: 0.5 })])
}

/** Values side by side, in the order in which they come. */
export function bars (values: readonly Bar[], options: ChartOptions): string {
  const series = seriesOf(values, options)
  const groups = [...new Set(values.map(({ group }) => group))]
  const name = (bar: Bar): string => bar.series ?? ''
  return draw(options, series, {
    fx: { label: options.x, domain: groups, padding: 0.15 },
    x: { axis: null, domain: [...series] },
    y: axisOf(options.yScale)
  }, [
    Plot.barY(values, { fx: 'group', x: name, y: 'value', fill: name, fillOpacity: 0.65 }),
    Plot.ruleX(values.filter(({ low, high }) => low !== undefined && high !== undefined), { fx: 'group', x: name, y1: 'low', y2: 'high' })
  ])
}

/** The vertical axis has its label in the header, and shows where zero is. */
function axisOf (type: 'linear' | 'log' = 'linear', label?: string): Plot.ScaleOptions {
  return { label: label ?? null, type, ...(type === 'log' && { tickFormat: '~g' }), ...(label === undefined && { grid: true, zero: type === 'linear' }) }
}

function seriesOf (values: ReadonlyArray<{ series?: string }>, { series }: ChartOptions): readonly string[] {
  return series ?? [...new Set(values.map(({ series }) => series ?? ''))]
}

function draw ({ title, y, limit, width = 760, height = 380 }: ChartOptions, series: readonly string[], scales: Scales, marks: Plotted): string {
  if (series.length > COLOURS.light.length) throw new Error(`A chart has at most ${COLOURS.light.length} series, "${title}" has ${series.length}`)
  const names = series.filter((name) => name !== '')
  const { document, XMLSerializer } = new JSDOM('').window
  const svg = Plot.plot({
    document,
    width,
    height,
    marginLeft: 68,
    marginRight: 28,
    marginTop: names.length > 0 ? 104 : 80,
    marginBottom: 48,
    style: { fontSize: '12px', fontFamily: 'system-ui, sans-serif', background: 'none' },
    color: { type: 'ordinal', domain: series, range: series.map((_, i) => `var(--series-${i})`) },
    ...scales,
    marks: [...marks, limit === undefined ? null : Plot.ruleY([limit], { strokeDasharray: '6 4' })]
  }) as unknown as SVGSVGElement
  svg.setAttribute('role', 'img')
  svg.setAttribute('aria-label', title)
  const legend = names.map((name, i) => `<tspan dx="${i === 0 ? 0 : 16}" fill="var(--series-${i})">&#9632;</tspan><tspan dx="4">${escape(name)}</tspan>`).join('')
  const text = (at: number, content: string, style = ''): string => `<text x="20" y="${at}" text-anchor="start" fill="currentColor"${style}>${content}</text>`
  const header = `<style>${themeOf('light', '#ffffff', '#1f2328')}@media (prefers-color-scheme: dark) {${themeOf('dark', '#0d1117', '#e6edf3')}}</style>` +
    '<rect width="100%" height="100%" rx="6" fill="var(--ground)"/>' +
    text(28, escape(title), ' font-size="15" font-weight="600"') +
    (names.length > 0 ? text(52, legend) + text(80, `↑ ${escape(y)}`) : text(56, `↑ ${escape(y)}`))
  svg.insertAdjacentHTML('afterbegin', header)
  return `${new XMLSerializer().serializeToString(svg)}\n`
}

function themeOf (theme: 'light' | 'dark', ground: string, text: string): string {
  return `svg{color:${text};--ground:${ground};--plot-background:${ground};${COLOURS[theme].map((colour, i) => `--series-${i}:${colour}`).join(';')}}`
}

function escape (text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;')
}
