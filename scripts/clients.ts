/** Writes the generated part of the clients: run it after a change of the HTTP API. */
import { writeFile } from 'node:fs/promises'
import { clientSchema, clientSchemaPath } from '../test/support/client-schema.js'

await writeFile(clientSchemaPath, await clientSchema())
