/**
 * Three services over one Milvus behind a balancer: one collection, and no request fails while they
 * are replaced. Runs the built server.
 */
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { Fleet } from '../replicas/fleet.js'
import { load, missing, image } from '../replicas/load.js'
import { hasMilvus, withoutMilvus } from '../support/milvus.js'

vi.setConfig({ testTimeout: 300_000 })

describe.skipIf(!hasMilvus)(`three services on one collection ${withoutMilvus}`, () => {
  let fleet: Fleet

  beforeAll(async () => {
    fleet = await Fleet.start()
  })
  afterAll(() => fleet.end())

  const put = async (address: string, id: string, hue: number): Promise<number> =>
    (
      await fetch(`${address}/items/${id}`, {
        method: 'PUT',
        headers: { 'content-type': 'image/jpeg' },
        body: await image(hue),
      })
    ).status
  const like = async (address: string, id: string): Promise<string[]> => {
    const body = JSON.stringify({ id, k: 1000 })
    const reply = await fetch(`${address}/search`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body,
    })
    return ((await reply.json()) as { hits: { id: string }[] }).hits.map((hit) => hit.id)
  }

  it('each service finds at once what another has added, replaced and removed', async () => {
    const addresses = fleet.replicas.map(({ address }) => address)
    expect(await put(addresses[0] ?? '', 'anchor', 10)).toBe(201)
    for (const [at, address] of addresses.entries()) {
      const id = `item-${at}`
      expect(await put(address, id, 90 * at)).toBe(201)
      for (const other of addresses) {
        expect(await like(other, 'anchor')).toContain(id)
        expect((await fetch(`${other}/items/${id}/image`)).status).toBe(200)
      }
      expect(await put(addresses[(at + 1) % 3] ?? '', id, 200)).toBe(200)
    }
    const images = await Promise.all(
      addresses.map(async (address) =>
        (await fetch(`${address}/items/item-0/image`)).headers.get('etag'),
      ),
    )
    expect(new Set(images).size).toBe(1)
    expect((await fetch(`${addresses[1]}/items/item-0`, { method: 'DELETE' })).status).toBe(204)
    for (const address of addresses) {
      expect(await like(address, 'anchor')).not.toContain('item-0')
      expect((await fetch(`${address}/items/item-0`)).status).toBe(404)
    }
  })

  it('no acknowledged write is lost when a service is killed under load', async () => {
    const [, victim] = fleet.replicas
    let killed: Promise<void> | undefined
    const onAnswer = (answered: number): void => {
      if (answered === 60) killed = victim?.kill()
    }
    const { acknowledged, failed } = await load({
      address: fleet.balancer.address,
      requests: 200,
      clients: 6,
      prefix: 'kill',
      onAnswer,
    })
    await killed
    // An interrupted request may have succeeded before its retry; all of these are idempotent.
    expect(failed).toEqual([])
    await victim?.start()
    for (const { address } of fleet.replicas)
      expect(await missing(address, acknowledged)).toEqual([])
    expect(acknowledged).toHaveLength(40)
  })

  it('no request fails while the services are restarted one by one', async () => {
    let rolled = false
    const rolling = fleet.roll().then(() => {
      rolled = true
    })
    let rounds = 0
    do {
      const { failed, acknowledged } = await load({
        address: fleet.balancer.address,
        requests: 100,
        clients: 4,
        prefix: `roll-${rounds}`,
      })
      expect(failed).toEqual([])
      for (const { address } of [fleet.balancer])
        expect(await missing(address, acknowledged)).toEqual([])
      rounds += 1
    } while (!rolled)
    await rolling
    expect(
      (await load({ address: fleet.balancer.address, requests: 30, clients: 3, prefix: 'after' }))
        .failed,
    ).toEqual([])
  })
})
