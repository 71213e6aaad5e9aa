/** Gives the schemas of an OpenAPI document that have a title a place of their own. */

export interface OpenApiDocument {
  components?: object | undefined
  [part: string]: unknown
}

/** Keywords whose values are data, which may have a title too. */
const VALUES = ['example', 'examples', 'default', 'enum', 'const']

/**
 * The document with each schema that has a title in `components`, named by it, and a reference in
 * every place of it. Generators of clients name their types so.
 *
 * @throws Error for two schemas with one title; their examples may differ
 */
export function withNamedSchemas(document: OpenApiDocument): OpenApiDocument {
  const schemas: Record<string, object> = {}
  const walk = (node: unknown, name?: string): unknown => {
    if (Array.isArray(node)) return node.map((entry) => walk(entry))
    if (typeof node !== 'object' || node === null) return node
    const entries = Object.entries(node).map(
      ([key, value]) => [key, VALUES.includes(key) ? value : walk(value, key)] as const,
    )
    const copy: Record<string, unknown> = Object.fromEntries(entries)
    const { title } = copy
    // A property that is called title, and the title of the document, belong to no schema.
    if (typeof title !== 'string' || name === 'info') return copy
    const known = schemas[title] ?? copy
    if (textOf(known) !== textOf(copy)) throw new Error(`Two schemas have the title ${title}.`)
    // Of a whole reply, the examples are beside the schema.
    schemas[title] = 'examples' in copy ? copy : known
    return { $ref: `#/components/schemas/${title}` }
  }
  const { components, ...rest } = document
  const walked = walk(rest) as OpenApiDocument
  return { ...walked, components: { ...components, schemas } }
}

function textOf(schema: object): string {
  return JSON.stringify({ ...schema, examples: undefined })
}
