/** What the documents point to exists: files, sections' anchors aside, and npm scripts. */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { packageFolder } from '../../src/config.js'

const documents = ['README.md', 'CONTRIBUTING.md', 'CHANGELOG.md']
for (const name of readdirSync(join(packageFolder, 'docs'), {
  recursive: true,
  encoding: 'utf8',
})) {
  if (name.endsWith('.md')) documents.push(join('docs', name))
}
const { scripts } = JSON.parse(readFileSync(join(packageFolder, 'package.json'), 'utf8')) as {
  scripts: Record<string, string>
}

describe.each(documents)('%s', (document) => {
  const text = readFileSync(join(packageFolder, document), 'utf8')

  it('links to files that exist', () => {
    const links = [...text.matchAll(/\]\((?!https?:|#)([^)#\s]+)/g)].map(
      ([, link]) => link as string,
    )
    for (const link of links) {
      expect(existsSync(join(packageFolder, dirname(document), link)), link).toBe(true)
    }
  })

  it('names npm scripts that exist', () => {
    for (const [, script] of text.matchAll(/npm run ([\w:-]+)/g))
      expect(Object.keys(scripts)).toContain(script)
  })
})
