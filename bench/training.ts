/**
 * Training steps a second against open_clip_torch; the measurement is in Python,
 * bench/training/clip_steps.py.
 */
import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { packageFolder } from '../src/config.js'
import { median } from '../test/soak/figures.js'
import { BenchSkipped, type Bench, type Scale } from './bench.js'

interface Side {
  seconds: number[]
  parameters: number
}

interface Figures {
  batch: number
  tokens: number
  open_clip_version: string
  torch_version: string
  tandem: Side
  open_clip: Side
}

const training = join(packageFolder, 'training')
const SIZES: Record<Scale, string[]> = {
  smoke: ['--batch', '4', '--rounds', '1', '--steps', '1'],
  quick: ['--batch', '32', '--rounds', '3', '--steps', '2'],
  full: ['--batch', '128', '--rounds', '5', '--steps', '4'],
}

export const trainingBench: Bench<Figures> = {
  name: 'training',
  title: 'Training: the recipe clip against open_clip',

  run: async (scale) => {
    const python = process.env['BENCH_PYTHON'] ?? join(training, '.venv', 'bin', 'python')
    const env = { ...process.env, PYTHONPATH: training, OMP_WAIT_POLICY: 'passive' }
    const ask = async (...args: string[]): Promise<string> =>
      (await promisify(execFile)(python, args, { env })).stdout
    await ask('-c', 'import open_clip, tandem_training').catch(() => {
      throw new BenchSkipped(
        'BENCH_PYTHON names no Python that has the packages of training/ and open_clip_torch',
      )
    })
    return JSON.parse(
      await ask(
        '-W',
        'ignore',
        join(packageFolder, 'bench', 'training', 'clip_steps.py'),
        ...SIZES[scale],
      ),
    ) as Figures
  },

  page({
    batch,
    tokens,
    open_clip_version: version,
    torch_version: torch,
    tandem,
    open_clip: peer,
  }) {
    const ratio = median(peer.seconds) / median(tandem.seconds)
    const row = (name: string, { seconds, parameters }: Side): string =>
      `| ${name} | ${(parameters / 1e6).toFixed(1)} M | ${median(seconds).toFixed(2)} | ${Math.min(...seconds).toFixed(2)} |`
    return [
      `A step of ${batch} pairs, ${tokens} tokens a caption: encoders, ITC, backward pass, clipping and AdamW in bf16; the same`,
      `widths, layers and heads. **Tandem takes ${ratio.toFixed(2)} times the steps a second** of open_clip_torch ${version}`,
      `(torch ${torch.split('+')[0]}).`,
      '',
      '| | parameters | seconds a step, median | least |',
      '|---|---:|---:|---:|',
      row('`recipes/dual-encoders/clip.toml`', tandem),
      row('open_clip', peer),
    ].join('\n')
  },
}
