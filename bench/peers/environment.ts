/** The Python environment of the FastAPI peer. */
import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { packageFolder } from '../../src/config.js'
import { BenchSkipped } from '../bench.js'

const requirements = join(packageFolder, 'bench', 'peers', 'requirements.txt')
const environment = join(packageFolder, 'bench', '.venv')
/** What is in the environment. */
const installed = join(environment, 'installed.txt')

/** The packages, with their versions. */
export function pinned(): string[] {
  return readFileSync(requirements, 'utf8').split('\n').filter((line) => /^\w/.test(line))
}

/**
 * A Python that has them; the environment is made where it is missing or of other versions.
 * @throws BenchSkipped
 */
export function peerPython(): string {
  const python = join(environment, 'bin', 'python')
  const wanted = readFileSync(requirements, 'utf8')
  if (existsSync(installed) && readFileSync(installed, 'utf8') === wanted) return python
  try {
    rmSync(environment, { recursive: true, force: true })
    execFileSync('python3', ['-m', 'venv', environment], { stdio: ['ignore', 2, 2] })
    execFileSync(python, ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', '-r', requirements], { stdio: ['ignore', 2, 2] })
  } catch (error) {
    throw new BenchSkipped(`the packages of bench/peers/requirements.txt could not be installed: ${(error as Error).message}`)
  }
  writeFileSync(installed, wanted)
  return python
}
