/** The Python environments of peers. */
import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { packageFolder } from '../../src/config.js'
import { BenchSkipped } from '../bench.js'

export type PythonPeer = 'fastapi' | 'infinity'

function requirements(peer: PythonPeer): string {
  return join(packageFolder, 'bench', 'peers', `requirements-${peer}.txt`)
}

/** The packages, with their versions. */
export function pinned(peer: PythonPeer): string[] {
  return readFileSync(requirements(peer), 'utf8')
    .split('\n')
    .filter((line) => /^\w/.test(line))
}

/**
 * The folder of the programs of an environment that has them; it is made where it is missing or of
 * other versions.
 * @throws BenchSkipped
 */
export function programsOf(peer: PythonPeer): string {
  const environment = join(packageFolder, 'bench', '.venv', peer)
  // What is in the environment.
  const installed = join(environment, 'installed.txt')
  const programs = join(environment, 'bin')
  const wanted = readFileSync(requirements(peer), 'utf8')
  if (existsSync(installed) && readFileSync(installed, 'utf8') === wanted) return programs
  try {
    rmSync(environment, { recursive: true, force: true })
    execFileSync('python3', ['-m', 'venv', environment], { stdio: ['ignore', 2, 2] })
    const install = [
      '-m',
      'pip',
      'install',
      '--quiet',
      '--disable-pip-version-check',
      '-r',
      requirements(peer),
    ]
    execFileSync(join(programs, 'python'), install, { stdio: ['ignore', 2, 2] })
  } catch (error) {
    throw new BenchSkipped(
      `the packages of ${requirements(peer)} could not be installed: ${(error as Error).message}`,
    )
  }
  writeFileSync(installed, wanted)
  return programs
}
