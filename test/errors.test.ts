import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { packageFolder } from '../src/config.js'
import { clip, errorTable, TandemError, type ErrorCode } from '../src/errors.js'

const document = readFileSync(join(packageFolder, 'docs/errors.md'), 'utf8')

describe('the error table', () => {
  it('has the codes and statuses of docs/errors.md, in the same order', () => {
    const documented = [...document.matchAll(/^\| (\d{3}) \| `([a-z_]+)` \|/gm)].map(
      ([, status, code]) => `${status} ${code}`,
    )
    expect(documented).toEqual(
      Object.entries(errorTable).map(([code, { status }]) => `${status} ${code}`),
    )
  })

  it('has the title and status of the example in docs/errors.md', () => {
    const [, example = ''] = /```json\n(.*?)```/s.exec(document) ?? []
    const { code, title, status } = JSON.parse(example) as {
      code: ErrorCode
      title: string
      status: number
    }
    expect(errorTable[code]).toMatchObject({ title, status })
  })
})

describe('an error', () => {
  it('has the status of its code, its cause and the time to wait', () => {
    const cause = new Error('disk')
    const error = new TandemError('overloaded', 'Too much.', { cause, retryAfterS: 2 })
    expect(error).toMatchObject({ status: 503, retryAfterS: 2, cause, message: 'Too much.' })
  })

  it('fills the template of its code with the values given', () => {
    const { message } = new TandemError('method_not_allowed', {
      path: '/items/$&',
      allowed: 'GET',
      method: 'PUT',
    })
    expect(message).toBe('/items/$& takes GET, not PUT.')
    expect(new TandemError('item_not_found', { id: '{id}' }).message).toBe(
      'There is no item with the id "{id}".',
    )
    expect(new TandemError('internal_error').message).toBe(errorTable.internal_error.detail)
  })

  it('does not compile with other values than its template names', () => {
    // @ts-expect-error The template names id.
    expect(new TandemError('item_not_found', { name: 'a' }).message).toContain('undefined')
    // @ts-expect-error The template has no second sentence.
    expect(new TandemError('item_not_found', 'Gone.').message).toBe('Gone.')
    // @ts-expect-error A code without a template takes a sentence.
    expect(new TandemError('overloaded', { what: 'a' }).message).toBe('')
  })

  it('about one of several values keeps its code and the time to wait', () => {
    const error = new TandemError('overloaded', 'Too much.', { retryAfterS: 2 })
    expect(error.about('inputs[3]')).toMatchObject({
      code: 'overloaded',
      message: 'inputs[3]: Too much.',
      retryAfterS: 2,
      cause: error,
    })
  })
})

describe('clip', () => {
  it('does not cut a pair of surrogates', () => {
    expect(clip('ab😀c', 3)).toBe('ab')
    expect(clip('ab😀c', 4)).toBe('ab😀')
    expect(clip('ab😀', 4)).toBe('ab😀')
  })
})
