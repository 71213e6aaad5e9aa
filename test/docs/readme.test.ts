/** The Chinese README has the headings, the commands and the code of the English one. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { packageFolder } from '../../src/config.js'

const [english = '', chinese = ''] = ['README.md', 'README.zh.md'].map((name) =>
  readFileSync(join(packageFolder, name), 'utf8'),
)

/** Levels of the headings, outside of code. */
function headings(text: string): string[] {
  return [...text.replace(/```[^]*?```/g, '').matchAll(/^(#+) /gm)].map(([, level = '']) => level)
}

/** Lines of code without their comments. */
function code(text: string): string[] {
  return [...text.matchAll(/```\w*\n([^]*?)```/g)].flatMap(([, block = '']) =>
    block
      .split('\n')
      .map((line) => line.replace(/(^|\s)(#|\/\/)\s.*$/, '').trimEnd())
      .filter((line) => line !== ''),
  )
}

it('has the same headings in both languages', () => {
  expect(headings(chinese)).toEqual(headings(english))
})

it('has the same commands in both languages', () => {
  expect(code(english).length).toBeGreaterThan(20)
  expect(code(chinese)).toEqual(code(english))
})

it('links each to the other', () => {
  expect(english).toContain('(README.zh.md)')
  expect(chinese).toContain('(README.md)')
})
