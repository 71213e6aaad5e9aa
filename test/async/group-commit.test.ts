import { describe, expect, it } from 'vitest'
import { GroupCommit, type GroupedWrite } from '../../src/async/group-commit.js'

const write = (kind: string, id: string | null): GroupedWrite => ({ kind, id })

describe('a group commit', () => {
  const committed: string[][] = []
  let failure: Error | undefined
  const groups = new GroupCommit<GroupedWrite, string>({
    maxGroup: 3,
    target: 'the disk',
    commit: async (group) => {
      committed.push(group.map(({ kind, id }) => `${kind} ${id}`))
      await Promise.resolve()
      if (failure !== undefined) throw failure
      return group.map(({ id }) => `done ${id}`)
    },
  })
  const addAll = async (writes: GroupedWrite[]): Promise<string[]> => {
    committed.length = 0
    return Promise.all(writes.map((each) => groups.add(each)))
  }

  it('commits writes of one turn together, up to the limit, in their order', async () => {
    const outcomes = await addAll(['a', 'b', 'c', 'd'].map((id) => write('add', id)))
    expect(outcomes).toEqual(['done a', 'done b', 'done c', 'done d'])
    expect(committed).toEqual([['add a', 'add b', 'add c'], ['add d']])
  })

  it('separates kinds, repeated ids, and writes without an id', async () => {
    await addAll([
      write('add', 'a'),
      write('add', 'a'),
      write('remove', 'a'),
      write('exclusive', null),
      write('exclusive', null),
    ])
    expect(committed).toEqual([
      ['add a'],
      ['add a'],
      ['remove a'],
      ['exclusive null'],
      ['exclusive null'],
    ])
  })

  it('fails all writes of a failed group and none of the next one', async () => {
    failure = new Error('the disk is full')
    await expect(addAll([write('add', 'a'), write('add', 'b')])).rejects.toThrow('the disk is full')
    failure = undefined
    expect(await addAll([write('add', 'a')])).toEqual(['done a'])
  })

  it('refuses writes beyond its queue as overloaded, naming what they wait for', async () => {
    const added = Array.from({ length: 2049 }, (_, at) => groups.add(write('add', `${at}`)))
    await expect(added.pop()).rejects.toMatchObject({
      code: 'overloaded',
      message: expect.stringContaining('2048 writes wait for the disk') as string,
    })
    await Promise.all(added)
    await groups.settled()
  })
})
