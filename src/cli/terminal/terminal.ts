/** What a command prints: results on `out`, progress and remarks on `err`. */
import cliProgress from 'cli-progress'

export interface Terminal {
  out: NodeJS.WritableStream & { isTTY?: boolean }
  err: NodeJS.WritableStream & { isTTY?: boolean }
}

export function printLine(stream: NodeJS.WritableStream, line = ''): void {
  stream.write(`${line}\n`)
}

/** The first few of `names` in parentheses. */
export function firstNames(names: readonly string[]): string {
  if (names.length === 0) return ''
  return ` (${names.slice(0, NAMES).join(', ')}${names.length > NAMES ? ', …' : ''})`
}

export interface Progress {
  /** @param count - 1 by default */
  advance(count?: number): void
  /** Prints a line above the bar. */
  remark(line: string): void
  stop(): void
}

const NAMES = 5
const LINE_INTERVAL_MS = 5000

/**
 * Shows the progress of `total` steps with rate and time left: a bar on a terminal, otherwise a
 * line every five seconds.
 *
 * @param unit - a plural, such as "images" or "captions searched"
 */
export function startProgress(terminal: Terminal, total: number, unit: string): Progress {
  return terminal.err.isTTY === true && total > 0
    ? bar(terminal, total, unit)
    : plainLines(terminal, total, unit)
}

/** The first word of the unit, for the rate. */
function noun(unit: string): string {
  return unit.split(' ', 1)[0] ?? unit
}

/** Steps a second. */
function rate(done: number, begun: number): number {
  return done / Math.max((performance.now() - begun) / 1000, 1e-3)
}

function bar(terminal: Terminal, total: number, unit: string): Progress {
  const begun = performance.now()
  const line = new cliProgress.SingleBar({
    format: `{bar} {value}/{total} ${unit} · {rate} ${noun(unit)}/s · {eta_formatted} left`,
    stream: terminal.err,
    barsize: 24,
    barCompleteChar: '█',
    barIncompleteChar: '░',
    hideCursor: true,
    clearOnComplete: true,
    stopOnComplete: false,
  })
  line.start(total, 0, { rate: '–' })
  let done = 0
  return {
    advance: (count = 1) => {
      done += count
      line.update(done, { rate: rate(done, begun).toFixed(1) })
    },
    remark: (text) => {
      // Overwrites the bar, whose next update draws it again below.
      terminal.err.write(`\r\u001b[K${text}\n`)
    },
    stop: () => line.stop(),
  }
}

function plainLines(terminal: Terminal, total: number, unit: string): Progress {
  const begun = performance.now()
  let done = 0
  let printed = begun
  const report = (): void => {
    const perSecond = rate(done, begun)
    const left = perSecond > 0 ? `, about ${Math.ceil((total - done) / perSecond)} s left` : ''
    printLine(
      terminal.err,
      `${done}/${total} ${unit}, ${perSecond.toFixed(1)} ${noun(unit)}/s${done < total ? left : ''}`,
    )
  }
  return {
    advance: (count = 1) => {
      done += count
      if (performance.now() - printed < LINE_INTERVAL_MS) return
      printed = performance.now()
      report()
    },
    remark: (text) => printLine(terminal.err, text),
    stop: () => {
      if (done > 0) report()
    },
  }
}
