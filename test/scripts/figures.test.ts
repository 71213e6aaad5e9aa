import { spawnSync } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { packageFolder } from '../../src/config.js'

const measured = {
  bundle: 'small',
  images: 10,
  captions: 50,
  candidates: 64,
  text_to_image: {
    similarity: { r1: 20.04, r5: 50, r10: 60 },
    rerank: { r1: 25, r5: 55, r10: 65 },
  },
  image_to_text: { similarity: { r1: 30, r5: 60, r10: 70 }, rerank: { r1: 29, r5: 61, r10: 71 } },
}

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'tandem-test-'))
  mkdirSync(join(folder, 'scripts'))
  cpSync(join(packageFolder, 'scripts', 'figures.mjs'), join(folder, 'scripts', 'figures.mjs'))
  writeFileSync(join(folder, 'figures.json'), JSON.stringify(measured))
})
afterEach(() => rmSync(folder, { recursive: true }))

const run = (): number | null =>
  spawnSync(process.execPath, [
    join(folder, 'scripts', 'figures.mjs'),
    join(folder, 'figures.json'),
  ]).status

describe('figures', () => {
  it('replaces only the text between the markers, also when repeated', () => {
    writeFileSync(
      join(folder, 'README.md'),
      '# A\n<!-- figures:begin -->\nold\n<!-- figures:end -->\nend\n',
    )
    expect([run(), run()]).toEqual([0, 0])
    const text = readFileSync(join(folder, 'README.md'), 'utf8')
    expect(text).toMatch(/^# A\n<!-- figures:begin -->\n/)
    expect(text).toMatch(/\n<!-- figures:end -->\nend\n$/)
    expect(text).not.toContain('old')
    expect(text).toContain('| sentence → photo, with rerank | 25.0 | 55.0 | 65.0 |')
    expect(text).toContain(
      'from 20.0 to 25.0 (+5.0), and photo → sentence R@1 from 30.0 to 29.0 (−1.0)',
    )
  })

  it('fails and changes nothing without the markers', () => {
    writeFileSync(join(folder, 'README.md'), '# A\n')
    expect(run()).not.toBe(0)
    expect(readFileSync(join(folder, 'README.md'), 'utf8')).toBe('# A\n')
  })

  it('the README has the markers', () => {
    const text = readFileSync(join(packageFolder, 'README.md'), 'utf8')
    expect(text).toMatch(/<!-- figures:begin -->\n[\s\S]*\n<!-- figures:end -->/)
  })
})
