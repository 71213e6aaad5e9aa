/** Reliability diagrams: how often pairs match, by the match that was predicted. */
import type { Bin } from './fit.js'
import type { Calibration } from './calibrate.js'

const SIDE = 400
const MARGIN = 50
const WIDTH = 30

/** A line for each bin. */
export function diagramLines({ after }: Pick<Calibration, 'after'>): string[] {
  const bar = (share: number): string => '█'.repeat(Math.round(share * WIDTH)).padEnd(WIDTH, '·')
  const percent = (share: number): string => `${(100 * share).toFixed(1).padStart(5)} %`
  return [
    `${'match'.padEnd(8)}${'observed'.padEnd(WIDTH + 10)}of all pairs`,
    ...after.bins.map(
      ({ predicted, observed, share }) =>
        `${predicted.toFixed(2).padEnd(8)}${bar(observed)}  ${percent(observed)} ${percent(share)}`,
    ),
  ]
}

/** Before and after as an SVG image. */
export function diagramSvg(name: string, { before, after, texts, images }: Calibration): string {
  const total = SIDE + 2 * MARGIN
  const x = (value: number): string => (MARGIN + SIDE * value).toFixed(1)
  const y = (value: number): string => (MARGIN + SIDE * (1 - value)).toFixed(1)
  const series = (bins: readonly Bin[], colour: string): string[] => [
    `<polyline fill="none" stroke="${colour}" points="${bins.map((bin) => `${x(bin.predicted)},${y(bin.observed)}`).join(' ')}"/>`,
    ...bins.map(
      ({ predicted, observed, share }) =>
        `<circle cx="${x(predicted)}" cy="${y(observed)}" r="${(2 + 14 * Math.sqrt(share)).toFixed(1)}" fill="${colour}" fill-opacity=".4"/>`,
    ),
  ]
  const ticks = [0, 0.25, 0.5, 0.75, 1].flatMap((at) => [
    `<text x="${x(at)}" y="${total - MARGIN + 18}" text-anchor="middle">${at}</text>`,
    `<text x="${MARGIN - 8}" y="${y(at)}" text-anchor="end" dy=".3em">${at}</text>`,
  ])
  const legend = (at: number, colour: string, what: string, error: number): string =>
    `<text x="${MARGIN + 10}" y="${MARGIN + at}" fill="${colour}">${what}: calibration error ${error.toFixed(3)}</text>`
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${total} ${total}" font-family="sans-serif" font-size="12">`,
    `<rect width="${total}" height="${total}" fill="white"/>`,
    `<rect x="${MARGIN}" y="${MARGIN}" width="${SIDE}" height="${SIDE}" fill="none" stroke="#999"/>`,
    `<line x1="${x(0)}" y1="${y(0)}" x2="${x(1)}" y2="${y(1)}" stroke="#999" stroke-dasharray="4"/>`,
    ...ticks,
    ...series(before.bins, '#c2410c'),
    ...series(after.bins, '#1d4ed8'),
    legend(20, '#c2410c', 'before', before.calibrationError),
    legend(36, '#1d4ed8', 'after', after.calibrationError),
    `<text x="${total / 2}" y="24" text-anchor="middle">${name}: ${texts} texts of ${images} images</text>`,
    `<text x="${total / 2}" y="${total - 12}" text-anchor="middle">match</text>`,
    `<text x="14" y="${total / 2}" text-anchor="middle" transform="rotate(-90 14 ${total / 2})">share that matches</text>`,
    '</svg>',
    '',
  ].join('\n')
}
