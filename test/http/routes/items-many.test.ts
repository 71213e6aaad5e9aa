import { connect } from 'node:net'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { startTestService, type TestService } from '../../support/test-service.js'
import { CallsByTurn, turnsDuring } from '../../support/turns.js'

let tandem: TestService
interface Reply {
  created: number
  replaced: number
  failed: number
  omitted?: number
  items: {
    index: number
    id: string | null
    status: string
    error?: { code: string; detail: string }
  }[]
}

beforeAll(async () => {
  tandem = await startTestService({ maxBodyBytes: 2048, maxBatchItems: 3 })
})
afterAll(() => tandem.end())

const line = (id: unknown, word: string, extra: object = {}): string =>
  JSON.stringify({ id, image: Buffer.from(word).toString('base64'), ...extra })

const send = async (body: string): Promise<Reply> => {
  const headers = { 'content-type': 'application/x-ndjson' }
  return (await tandem.app.inject({ method: 'POST', url: '/items', payload: body, headers })).json()
}

describe('POST /items with lines of JSON', () => {
  it('returns the outcome of each line in order and stores the valid ones', async () => {
    const lines = [
      line('l1', 'dog', { payload: { n: 1 } }),
      '{"id": "l2", broken',
      line('l3', 'bad image'),
      '',
      line('l4', 'x'.repeat(4000)),
      line('l5', 'cat'),
      line('', 'dog'),
      line('l6', 'dog', { title: 'x' }),
      '{"id": "l7", "image": "ZG9n", "payload": {"__proto__": {"x": 1}}}',
      line('l1', 'horse'),
    ]
    const { created, replaced, failed, items } = await send(lines.join('\n'))
    expect({ created, replaced, failed }).toEqual({ created: 2, replaced: 1, failed: 6 })
    expect(items.map(({ index }) => index)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8])
    expect(items.map(({ id, status, error }) => [id, error?.code ?? status])).toEqual([
      ['l1', 'created'],
      [null, 'payload_invalid'],
      ['l3', 'image_unreadable'],
      [null, 'body_too_large'],
      ['l5', 'created'],
      ['', 'invalid_request'],
      ['l6', 'invalid_request'],
      [null, 'payload_invalid'],
      ['l1', 'replaced'],
    ])
    expect((await tandem.app.inject('/items/l1/image')).body).toBe('horse')
    expect((await tandem.app.inject('/items/l3')).statusCode).toBe(404)
  })

  it('accepts more lines than a batch and keeps their order', async () => {
    const ids = Array.from({ length: 100 }, (_, at) => `many-${at}`)
    const { created, items } = await send(ids.map((id) => line(id, 'dog')).join('\r\n') + '\n')
    expect(created).toBe(100)
    expect(items.map(({ id }) => id)).toEqual(ids)
  })

  it('counts the outcomes that are too many for a reply', async () => {
    const body = [line('first', 'dog'), ...Array<string>(12_000).fill('1'), line('last', 'cat')]
    const reply = await send(body.join('\n'))
    expect(reply).toMatchObject({ created: 2, replaced: 0, failed: 12_000, omitted: 2000 })
    expect(reply.items).toHaveLength(10_002)
    expect(reply.items.at(-1)).toEqual({ index: 12_001, id: 'last', status: 'created' })
    expect(Object.keys(await send(line('one', 'dog')))).not.toContain('omitted')
  })

  it('gives other requests turns between lines that are refused at once', async () => {
    const { turns } = await turnsDuring(() => send('1\n'.repeat(5000)))
    expect(turns).toBeGreaterThan(300)
  })

  it('stores the lines that arrived before the client disconnects', async () => {
    await tandem.app.listen({ host: '127.0.0.1', port: 0 })
    const socket = connect((tandem.app.server.address() as AddressInfo).port, '127.0.0.1')
    await once(socket, 'connect')
    socket.write(
      'POST /items HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n',
    )
    const lines = Array.from({ length: 20 }, (_, at) => line(`cut-${at}`, 'dog') + '\n').join('')
    socket.write(`${Buffer.byteLength(lines).toString(16)}\r\n${lines}\r\n`)
    await expect.poll(() => tandem.index.has('cut-15'), { timeout: 5000 }).toBe(true)
    socket.destroy()
    await expect.poll(async () => (await tandem.app.inject('/health/live')).statusCode).toBe(200)
    expect((await tandem.app.inject('/items/cut-0')).statusCode).toBe(200)
  })

  it('refuses a body without lines', async () => {
    for (const body of ['\n\n', ' \r\n'])
      expect(await send(body)).toMatchObject({ status: 400, code: 'body_missing' })
  })

  it('keeps the last of several lines with one id, also when an earlier one is slower', async () => {
    let calls = 0
    tandem.models.gate = () => new Promise((done) => setTimeout(done, (calls += 1) === 1 ? 100 : 0))
    const lines = ['dog', 'cat', 'horse'].map((word, n) => line('twice', word, { payload: { n } }))
    const { items } = await send([...lines, line('other', 'dog')].join('\n'))
    tandem.models.gate = () => Promise.resolve()
    expect(items.map(({ id, status }) => [id, status])).toEqual([
      ['twice', 'created'],
      ['twice', 'replaced'],
      ['twice', 'replaced'],
      ['other', 'created'],
    ])
    expect((await tandem.app.inject('/items/twice')).json()).toMatchObject({ payload: { n: 2 } })
    expect((await tandem.app.inject('/items/twice/image')).body).toBe('horse')
  })
})

describe('POST /items with a form', () => {
  const post = (form: FormData) =>
    tandem.app.inject({ method: 'POST', url: '/items', payload: form })

  it('gives other requests turns between images that take long to read', async () => {
    const service = await startTestService({ maxBatchItems: 16 })
    const form = new FormData()
    for (let at = 0; at < 16; at += 1) form.append('image', new Blob(['dog']), `slow-${at}`)
    const calls = new CallsByTurn()
    service.models.gate = () => Promise.resolve(calls.count())
    let now = performance.now()
    const clock = vi.spyOn(performance, 'now').mockImplementation(() => (now += 5))
    const reply = await service.app.inject({ method: 'POST', url: '/items', payload: form })
    clock.mockRestore()
    await service.end()
    expect(reply.json<Reply>().created).toBe(16)
    expect(calls.all).toBe(16)
    expect(calls.most).toBeLessThanOrEqual(2)
  })

  it('takes ids from fields or from file names', async () => {
    const named = new FormData()
    for (const name of ['a.jpg', 'b c.png']) named.append('image', new Blob([name]), name)
    expect((await post(named)).json<Reply>().items.map(({ id }) => id)).toEqual([
      'a.jpg',
      'b c.png',
    ])

    const given = new FormData()
    for (const id of ['x/1', 'x/2']) {
      given.append('id', id)
      given.append('image', new Blob(['dog']), 'same.jpg')
      given.append('payload', JSON.stringify({ id }))
    }
    expect((await post(given)).json<Reply>().items.map(({ id }) => id)).toEqual(['x/1', 'x/2'])
    expect((await tandem.app.inject('/items/x%2F2')).json()).toMatchObject({
      payload: { id: 'x/2' },
    })
  })

  it('keeps files of two folders apart by the paths that the client gives', async () => {
    const ids: (string | null | undefined)[] = []
    for (const names of [
      ['a/x.jpg', 'b/x.jpg'],
      ['سگ/x.jpg', 'C:\\fakepath\\y.jpg'],
    ]) {
      const form = new FormData()
      for (const name of names) form.append('image', new Blob(['dog']), name)
      ids.push(...(await post(form)).json<Reply>().items.map(({ id }) => id))
    }
    expect(ids).toEqual(['a/x.jpg', 'b/x.jpg', 'سگ/x.jpg', 'y.jpg'])
    expect((await tandem.app.inject('/items/b%2Fx.jpg')).statusCode).toBe(200)
  })

  it.each(['../x.jpg', 'a/../x.jpg', '/x.jpg', 'a//x.jpg', './x.jpg', 'a/', '..'])(
    'takes no id from the file name %s',
    async (name) => {
      const form = new FormData()
      form.append('image', new Blob(['dog']), name)
      const { created, items } = (await post(form)).json<Reply>()
      expect(created).toBe(0)
      expect(items[0]?.error).toMatchObject({ code: 'invalid_request' })
      const given = new FormData()
      given.append('id', 'mine')
      given.append('image', new Blob(['dog']), name)
      expect((await post(given)).json<Reply>().items[0]?.id).toBe('mine')
    },
  )

  it('stores the valid images of a form with an invalid one', async () => {
    const form = new FormData()
    for (const word of ['good 1', 'bad', 'good 2']) form.append('image', new Blob([word]), word)
    const { created, failed, items } = (await post(form)).json<Reply>()
    expect({ created, failed }).toEqual({ created: 2, failed: 1 })
    expect(items[1]?.error?.code).toBe('image_unreadable')
  })

  it('refuses mismatched counts, too many images, too many bytes and an empty form', async () => {
    const unpaired = new FormData()
    unpaired.append('id', 'one')
    for (const name of ['a', 'b']) unpaired.append('image', new Blob(['dog']), name)
    const unpairedReply = await post(unpaired)
    expect(unpairedReply.statusCode).toBe(422)
    expect(unpairedReply.json<{ detail: string }>().detail).toContain(
      '2 files named image and 1 fields named id',
    )

    const many = new FormData()
    for (const name of ['a', 'b', 'c', 'd']) many.append('image', new Blob(['dog']), name)
    expect((await post(many)).json()).toMatchObject({ status: 413, code: 'batch_too_large' })

    const large = new FormData()
    for (const name of ['a', 'b']) large.append('image', new Blob(['x'.repeat(1500)]), name)
    expect((await post(large)).json()).toMatchObject({ status: 413, code: 'body_too_large' })

    expect((await post(new FormData())).json()).toMatchObject({ status: 400 })
  })
})
