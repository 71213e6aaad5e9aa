/** Runs scripts in the Python environment of `training/`, which not every machine has. */
import { execFileSync, spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { packageFolder } from '../../src/config.js'

const MOST_MS = 8 * 60_000

export const python = join(packageFolder, 'training', '.venv', 'bin', 'python')

/** Why tests that import these modules are skipped; null if they can run. */
export function missingModules(...modules: readonly string[]): string | null {
  const code = `from importlib.util import find_spec; import sys; sys.exit(any(find_spec(name) is None for name in ${JSON.stringify(modules)}))`
  const isComplete = spawnSync(python, ['-c', code]).status === 0
  return isComplete ? null : `(needs ${modules.join(', ')} in training/.venv)`
}

/** Runs a script with `input` as JSON on its standard input; returns the JSON that it prints. */
export function runPython(script: URL, input: unknown, args: readonly string[] = []): unknown {
  const printed = execFileSync(python, [script.pathname, ...args], {
    input: JSON.stringify(input),
    encoding: 'utf8',
    maxBuffer: 2 ** 28,
    stdio: 'pipe',
    timeout: MOST_MS,
    env: {
      ...process.env,
      // The trainer of this checkout.
      PYTHONPATH: join(packageFolder, 'training'),
      HF_HUB_OFFLINE: '1',
      CUDA_VISIBLE_DEVICES: '',
    },
  })
  return JSON.parse(printed)
}
