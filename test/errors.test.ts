import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { packageFolder } from '../src/config.js'
import { errorTable, TandemError } from '../src/errors.js'

describe('the error table', () => {
  it('is that of docs/errors.md, code and status', () => {
    const text = readFileSync(join(packageFolder, 'docs/errors.md'), 'utf8')
    const documented = [...text.matchAll(/^\| (\d{3}) \| `([a-z_]+)` \|/gm)].map(
      ([, status, code]) => `${status} ${code}`,
    )
    expect(documented).toEqual(
      Object.entries(errorTable).map(([code, { status }]) => `${status} ${code}`),
    )
  })

  it('gives an error its status, and keeps its cause', () => {
    const cause = new Error('disk')
    const error = new TandemError('overloaded', 'Too much.', { cause, retryAfterS: 2 })
    expect(error).toMatchObject({ status: 503, retryAfterS: 2, cause, message: 'Too much.' })
  })
})
