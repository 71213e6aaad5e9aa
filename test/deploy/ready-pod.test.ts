/** Runs the command of `helm test` against a server that is ready, not ready, or absent. */
import { spawn } from 'node:child_process'
import { createServer, type Server } from 'node:http'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { describe, expect, it, vi } from 'vitest'
import { helm, only, render, type Container } from './chart.js'

vi.setConfig({ testTimeout: 60_000 })

const SERVICE = 'http://photos-tandem:80'

/**
 * @param address - replaces that of the Service
 * @returns the exit status of the pod's command
 */
async function runAgainst(address: string): Promise<{ status: number; said: string }> {
  const { containers } = only(render(), 'Pod').spec as { containers: [Container] }
  const [program = '', ...args] = containers[0].command ?? []
  expect(args.join()).toContain(SERVICE)
  const child = spawn(
    program,
    args.map((arg) => arg.replace(SERVICE, address)),
  )
  let said = ''
  child.stdout.on('data', (data: Buffer) => (said += data.toString()))
  const [status] = (await once(child, 'close')) as [number]
  return { status, said }
}

async function answering(
  status: number,
  detail: string,
): Promise<{ server: Server; address: string }> {
  const server = createServer((_request, reply) =>
    reply.writeHead(status).end(JSON.stringify({ detail })),
  ).listen(0, '127.0.0.1')
  await once(server, 'listening')
  return { server, address: `http://127.0.0.1:${(server.address() as AddressInfo).port}` }
}

describe.skipIf(helm === null)('the pod of helm test (needs helm: none was found)', () => {
  it.each([
    [200, 'the model is warm', 0],
    [503, 'the index is repaired', 1],
  ])('reports a service that answers %i, with its detail', async (answered, detail, expected) => {
    const { server, address } = await answering(answered, detail)
    const { status, said } = await runAgainst(address)
    server.close()
    expect(status).toBe(expected)
    expect(said).toContain(`${address}/health/ready ${answered}`)
    expect(said).toContain(detail)
  })

  it('reports an absent service', async () => {
    const { server, address } = await answering(200, '')
    server.close()
    await once(server, 'close')
    const { status, said } = await runAgainst(address)
    expect(status).toBe(1)
    expect(said).toMatch(/ECONNREFUSED/)
  })
})
