import { describe, expect, it } from 'vitest'
import { withNamedSchemas } from '../../src/http/named-schemas.js'

const dog = { title: 'Dog', type: 'object', properties: { title: { type: 'string' } } }

describe('withNamedSchemas', () => {
  it('puts a schema with a title in components, and a reference in each place of it', () => {
    const document = {
      info: { title: 'Animals' },
      components: { securitySchemes: { bearer: {} } },
      paths: { a: { schema: dog }, b: { items: [dog] } },
    }
    const before = structuredClone(document)
    expect(withNamedSchemas(document)).toEqual({
      info: { title: 'Animals' },
      components: { securitySchemes: { bearer: {} }, schemas: { Dog: dog } },
      paths: {
        a: { schema: { $ref: '#/components/schemas/Dog' } },
        b: { items: [{ $ref: '#/components/schemas/Dog' }] },
      },
    })
    expect(document).toEqual(before)
  })

  it('names a schema within another, and leaves examples as they are', () => {
    const owner = { title: 'Owner', properties: { dog }, examples: [{ title: 'Ms' }] }
    expect(withNamedSchemas({ paths: { owner } })).toEqual({
      components: {
        schemas: {
          Dog: dog,
          Owner: {
            title: 'Owner',
            properties: { dog: { $ref: '#/components/schemas/Dog' } },
            examples: [{ title: 'Ms' }],
          },
        },
      },
      paths: { owner: { $ref: '#/components/schemas/Owner' } },
    })
  })

  it('refuses two schemas with one title', () => {
    const document = { paths: { dog, other: { title: 'Dog', type: 'string' } } }
    expect(() => withNamedSchemas(document)).toThrow('Two schemas have the title Dog')
  })
})
