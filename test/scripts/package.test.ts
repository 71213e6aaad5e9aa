/** What `npm pack` publishes. */
import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { packageFolder } from '../../src/config.js'

interface Manifest {
  bin: Record<string, string>
  exports: Record<string, string | { types: string; default: string }>
}

const { bin, exports } = JSON.parse(
  readFileSync(join(packageFolder, 'package.json'), 'utf8'),
) as Manifest

it.skipIf(!existsSync(join(packageFolder, 'dist')))(
  'npm pack packs the command, the exports with their types, the page and the shipped bundle',
  () => {
    const output = execFileSync('npm', ['pack', '--dry-run', '--json', '--ignore-scripts'], {
      cwd: packageFolder,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    })
    // A list of packages, or since npm 11.8 an object of them by name.
    const [{ files } = { files: [] }] = Object.values(
      JSON.parse(output) as Record<string, { files: { path: string }[] }>,
    )
    const packed = files.map(({ path }) => path)
    const named = [
      ...Object.values(bin),
      ...Object.values(exports).flatMap((value) =>
        typeof value === 'string' ? [value] : Object.values(value),
      ),
    ]
    expect(packed).toEqual(
      expect.arrayContaining([
        ...named.map((path) => path.replace(/^\.\//, '')),
        'web/index.html',
        'models/tandem-small/manifest.json',
        'LICENSE',
      ]),
    )
    expect(packed.filter((path) => /^(src|test|training|bench)\//.test(path))).toEqual([])
  },
  60_000,
)
