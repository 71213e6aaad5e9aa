/** `tandem search` against a service with word models, which understand English. */
import { PassThrough } from 'node:stream'
import { Command } from 'commander'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { addSearchCommand } from '../../src/cli/search.js'
import { startTestService, type TestService } from '../support/test-service.js'

let tandem: TestService
let url: string

beforeAll(async () => {
  tandem = await startTestService()
  url = await tandem.app.listen({ host: '127.0.0.1', port: 0 })
  await tandem.app.inject({
    method: 'PUT',
    url: '/items/p1',
    payload: Buffer.from('dog'),
    headers: { 'content-type': 'image/jpeg' },
  })
})
afterAll(() => tandem.end())

async function search(...args: string[]): Promise<{ out: string; err: string }> {
  const program = new Command()
  const terminal = { out: new PassThrough(), err: new PassThrough() }
  addSearchCommand(program, terminal)
  await program.parseAsync(['search', ...args, '--url', url], { from: 'user' })
  const written = (stream: PassThrough): string => String(stream.read() ?? '')
  return { out: written(terminal.out), err: written(terminal.err) }
}

describe('tandem search', () => {
  it('says beside the hits that the bundle does not understand the language, and shows no match', async () => {
    const { out, err } = await search('un chien court sur la plage')
    expect(err).toBe(
      'The query seems to be in French (fr); the bundle words understands English (en). There is no match.\n',
    )
    expect(out).toMatch(/^ +1 {2}similarity +\S+ {2}p1\n1 hit/)
  })

  it('prints the notice in the answer alone with --json, which stays JSON', async () => {
    const { out, err } = await search('un chien court sur la plage', '--json')
    expect(err).toBe('')
    expect(JSON.parse(out)).toMatchObject({
      notices: [{ code: 'language_not_spoken', language: 'fr' }],
      hits: [{ id: 'p1', match: null }],
    })
  })

  it.each([
    ['in a language that the bundle understands', ['a dog']],
    ['whose language is named', ['un chien court sur la plage', '--language', 'en']],
  ])('has no notice for a sentence %s', async (_, args) => {
    expect((await search(...args)).err).toBe('')
  })
})
