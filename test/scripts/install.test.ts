/** What `npm ci` runs and accepts, with the npm of Node 20 and with later ones. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { packageFolder } from '../../src/config.js'

interface Locked {
  hasInstallScript?: boolean
  engines?: { node?: string }
}

function json<Content>(name: string): Content {
  return JSON.parse(readFileSync(join(packageFolder, name), 'utf8')) as Content
}

const { allowScripts } = json<{ allowScripts: Record<string, boolean> }>('package.json')
const packages = Object.entries(
  json<{ packages: Record<string, Locked> }>('package-lock.json').packages,
)

describe('npm ci', () => {
  // npm 10 runs the scripts that the lock file marks; later versions read allowScripts.
  // An update of onnxruntime-node may restore the mark: remove it from the lock file.
  it('does not run the install script of onnxruntime-node, which downloads CUDA libraries', () => {
    expect(allowScripts['onnxruntime-node']).toBe(false)
    const [, locked] = packages.find(([path]) => path === 'node_modules/onnxruntime-node') ?? []
    expect(locked).toBeDefined()
    expect(locked?.hasInstallScript).toBeUndefined()
  })

  it('runs or skips every other install script by allowScripts', () => {
    const names = packages
      .filter(([, { hasInstallScript }]) => hasInstallScript === true)
      .map(([path]) => path.replace(/^.*node_modules\//, ''))
    expect(names.length).toBeGreaterThan(0)
    expect(Object.keys(allowScripts)).toEqual(expect.arrayContaining(names))
  })

  it('finds no package that needs a later Node than 20', () => {
    const later = packages.filter(([, { engines }]) => /^>=? ?2[1-9]/.test(engines?.node ?? ''))
    expect(later.map(([path]) => path)).toEqual([])
  })
})
