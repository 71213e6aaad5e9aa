import { execFile, spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { packageFolder } from '../../src/config.js'
import { startTestService, type TestService } from '../support/test-service.js'

const run = promisify(execFile)
const NEEDED = 'import sys; sys.exit(sys.version_info < (3, 11))'
const isMissing = spawnSync('python3', ['-c', NEEDED]).status !== 0
const KEY = 'first-secret'

/** Prints a JSON list of what each call returned. */
const SCRIPT = `
import json, sys
from tandem_client import Tandem, TandemError
url, key = sys.argv[1:]
tandem = Tandem(url + "/", key)
results = [tandem.add("a/dog", b"dog 3", {"year": 2024}), tandem.add("cat", b"cat 1")]
found = tandem.search("dog", k=5, filter={"must": [{"key": "year", "match": 2024}]})
results.append([(hit["id"], hit["match"] is not None) for hit in found["hits"]])
results.append([hit["id"] for hit in tandem.search(image=b"dog", k=1)["hits"]])
results.append([hit["id"] for hit in tandem.search(id="cat", k=1)["hits"]])
results.append([len(row) for row in tandem.embed(["dog", b"cat"])])
results.append([row["index"] for row in tandem.rerank("x", [{"id": "cat"}, {"id": "a/dog"}])["results"]])
results.append([tandem.item("a/dog")["payload"], len(tandem.image("a/dog")) > 0])
tandem.remove("cat")
results.append([item["id"] for item in tandem.items()])
for client, id in ((tandem, "cat"), (Tandem(url, "another-secret"), "a/dog")):
    try:
        client.item(id)
    except TandemError as error:
        results.append([error.status, error.code, str(error)])
print(json.dumps(results))
`

describe.skipIf(isMissing)('the Python client (needs python3 of 3.11 or newer)', () => {
  let service: TestService
  let url: string

  beforeAll(async () => {
    service = await startTestService({ apiKeys: [KEY] })
    url = await service.app.listen({ host: '127.0.0.1', port: 0 })
  })
  afterAll(() => service.end())

  it('adds, finds, ranks, reads and removes items, and raises refusals with their code', async () => {
    const environment = {
      PATH: process.env['PATH'],
      PYTHONPATH: join(packageFolder, 'clients', 'python'),
      PYTHONDONTWRITEBYTECODE: '1',
    }
    const { stdout } = await run('python3', ['-c', SCRIPT, url, KEY], { env: environment })
    expect(JSON.parse(stdout)).toEqual([
      'created',
      'created',
      [['a/dog', true]],
      ['a/dog'],
      ['a/dog'],
      [64, 64],
      [1, 0],
      [{ year: 2024 }, true],
      ['a/dog'],
      [404, 'item_not_found', 'There is no item with the id "cat".'],
      [401, 'unauthorized', expect.stringContaining('the one given is unknown')],
    ])
  })
})
