import { expect, it, vi } from 'vitest'
import { logOfService } from '../support/service-log.js'

vi.setConfig({ testTimeout: 60_000 })

const requests = `
  const secret = 'PRIVATE-4711'
  const json = (method, url, value) => send(method, url, value)
  const key = { 'x-api-key': 'hunter2-secret' }
  await json('PUT', '/items/a', { image, payload: { [secret]: secret } })
  await json('PUT', '/items/b', { image, payload: secret })
  await json('PUT', '/items/c', { image: secret + '!' })
  await json('PUT', '/items/d', { image: 'https://example.com/' + secret })
  await send('PUT', '/items/e', Buffer.from('bad ' + secret), { ...key, 'content-type': 'image/png' })
  await send('PUT', '/items/f?payload=' + encodeURIComponent('{"a":"' + secret), Buffer.from('dog'), { ...key, 'content-type': 'image/png' })
  await send('PUT', '/items/g', Buffer.from('dog'), { ...key, 'content-type': 'image/png', 'x-tandem-payload': '{' + secret })
  await send('POST', '/search', '{"text": "' + secret + '"', { ...key, 'content-type': 'application/json' })
  await send('POST', '/search', '{"' + secret + '": 1, "' + secret + '": 2}', { ...key, 'content-type': 'application/json' })
  await send('POST', '/search', '--x\\r\\n' + secret, { ...key, 'content-type': 'multipart/form-data; boundary=x' })
  await json('POST', '/search', { text: 'dog', filter: { must: [{ key: 'a', match: { [secret]: secret } }] } })
  await json('POST', '/search', { text: secret, k: secret })
  await json('POST', '/search', { id: secret })
  await json('POST', '/rerank', { query: secret, documents: secret })
  await json('POST', '/embed', { inputs: [{ text: secret.repeat(2000) }] })
  await send('GET', '/search?q=' + secret + '&filter=' + secret)
  await send('GET', '/search?q=%' + secret)
  await send('GET', '/search?q=a&' + secret + '=1')
  await send('GET', '/items/' + secret)
  await send('GET', '/' + secret)
  await send('GET', '/items?after=' + secret + '&limit=' + secret)
  await send('GET', '/items', undefined, { 'x-api-key': secret })
  await send('GET', '/items', undefined, { ...key, host: secret })
  await send('GET', '/items', undefined, { ...key, origin: 'https://' + secret })
  await send('GET', '/items', undefined, { ...key, 'request-timeout': secret })
  await send('POST', '/items', '{"id": "' + secret, { ...key, 'content-type': 'application/x-ndjson' })
`

it('has the codes of refused requests, and nothing that they contained', async () => {
  const log = await logOfService('info', requests)
  const lines = log.split('\n').filter((line) => line.includes('"code"'))
  expect(lines.length).toBeGreaterThan(20)
  // The audit has the ids of changes, none of which is secret here.
  expect(log).not.toContain('4711')
})

it('has no queries and keys at LOG_LEVEL=debug', async () => {
  const search = `await send('GET', '/search?q=PRIVATE-4711&key=hunter2-secret')`
  const log = await logOfService('debug', search)
  expect(log).toContain('"path":"/search"')
  expect(log).not.toMatch(/4711|hunter2/)
})

it('has one line for many refusals within ten seconds', async () => {
  const flood = `for (let at = 0; at < 500; at += 1) await send('GET', '/search?q=a')`
  const log = await logOfService('info', flood, false)
  const lines = log.split('\n').filter((line) => line.includes('refused'))
  expect(lines).toHaveLength(1)
  expect(lines[0]).toContain('"not_ready":1')
  expect(log.length).toBeLessThan(5000)
})

it('has nothing of a request that is answered before its body is complete', async () => {
  const log = await logOfService(
    'info',
    `
    const { connect } = await import('node:net')
    await tandem.app.listen({ host: '127.0.0.1', port: 0 })
    const socket = connect(tandem.app.server.address().port, '127.0.0.1')
    socket.write('PUT /items/a?payload=PRIVATE-4711 HTTP/1.1\\r\\nHost: localhost\\r\\nX-API-Key: hunter2-secret\\r\\nRequest-Timeout: 0.1\\r\\nContent-Type: application/json\\r\\nContent-Length: 9\\r\\n\\r\\n{')
    await new Promise((done) => socket.once('data', done))
    socket.write('PRIVATE-')
    await new Promise((done) => setTimeout(done, 200))
    socket.destroy()
    await new Promise((done) => setTimeout(done, 200))
    `,
  )
  expect(log).toContain('"timed_out"')
  expect(log).not.toMatch(/PRIVATE|already/)
})
