/** Where a command writes. Given to it, so that only cli.ts touches the process. */
import cliProgress from 'cli-progress'

export interface Terminal {
  /** Results. */
  out: NodeJS.WritableStream
  /** Progress and remarks. */
  err: NodeJS.WritableStream & { isTTY?: boolean }
}

export function printLine(stream: NodeJS.WritableStream, line = ''): void {
  stream.write(`${line}\n`)
}

export interface Progress {
  /** So many more are through; one, unless said. */
  advance(count?: number): void
  /** Prints a remark without breaking the bar. */
  remark(line: string): void
  stop(): void
}

const PLAIN_LINE_EVERY_MS = 5000

/**
 * Shows how far `total` things are: a bar with rate and time left on a terminal, a line every five
 * seconds otherwise.
 *
 * @param unit - plural name of the things, and what happens to them: "images", "captions asked"
 */
export function startProgress(terminal: Terminal, total: number, unit: string): Progress {
  return terminal.err.isTTY === true && total > 0
    ? bar(terminal, total, unit)
    : plainLines(terminal, total, unit)
}

/** What the rate counts: the first word of the unit. */
function thing(unit: string): string {
  return unit.split(' ', 1)[0] ?? unit
}

/** Things a second since `begun`. */
function rate(done: number, begun: number): number {
  return done / Math.max((performance.now() - begun) / 1000, 1e-3)
}

function bar(terminal: Terminal, total: number, unit: string): Progress {
  const begun = performance.now()
  const line = new cliProgress.SingleBar({
    format: `{bar} {value}/{total} ${unit} · {rate} ${thing(unit)}/s · {eta_formatted} left`,
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
      // Over the bar: it is drawn again below the remark at its next update.
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
      `${done}/${total} ${unit}, ${perSecond.toFixed(1)} ${thing(unit)}/s${done < total ? left : ''}`,
    )
  }
  return {
    advance: (count = 1) => {
      done += count
      if (performance.now() - printed < PLAIN_LINE_EVERY_MS) return
      printed = performance.now()
      report()
    },
    remark: (text) => printLine(terminal.err, text),
    stop: () => {
      if (done > 0) report()
    },
  }
}
