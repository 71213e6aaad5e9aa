/** The tools that assistants get over MCP: what each takes, answers and does. */
import { Type, type Static, type TObject } from 'typebox'
import { closed, Id, Notices, StoredPayload, Text, type Payload } from '../../schemas/fields.js'
import { ItemReply } from '../../schemas/items.js'
import { Hit, SearchBody, type SearchReply } from '../../schemas/search.js'

/** What the tools need of a service: this process, or another one behind its HTTP API. */
export interface ToolService {
  search(body: SearchBody): Promise<Static<typeof SearchReply>>
  item(id: string): Promise<ItemReply>
  /** The stored JPEG of an item. */
  image(id: string): Promise<Uint8Array>
  /** The address of that JPEG. */
  imageUrl(id: string): string
}

/** A block of an answer, in the form of MCP. */
export type Content =
  { type: 'text'; text: string } | { type: 'image'; data: string; mimeType: string }

export interface ToolResult {
  /** Goes before the structured answer, which is also sent as text. */
  images: Extract<Content, { type: 'image' }>[]
  structured: Record<string, unknown>
}

export interface Tool<Arguments extends TObject = TObject> {
  name: string
  title: string
  description: string
  takes: Arguments
  answers: TObject
  run(args: Static<Arguments>, service: ToolService): Promise<ToolResult>
}

/** More hits than an assistant reads. */
const MAX_HITS = 50
const TITLES = ['title', 'name', 'caption', 'path']

const title = Type.String({
  description: 'The title, name, caption or path of the payload, or the id',
})
const url = Type.String({ description: 'The address of the image' })

const SearchImages = Type.Object(
  {
    ...SearchBody.properties,
    k: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: MAX_HITS,
        default: 10,
        description: `a whole number from 1 to ${MAX_HITS}: hits to return`,
      }),
    ),
  },
  { ...closed, description: 'an object with exactly one of text, image, id, and options' },
)

const searchImages: Tool<typeof SearchImages> = {
  name: 'search_images',
  title: 'Search images',
  description:
    'Finds stored images by exactly one of: text (a sentence about what the image shows), id (images similar to a stored one), image (images similar to a base64 image). Each hit has a match, the probability that sentence and image belong together; min_match drops improbable hits. filter restricts the search by payload, such as {"must":[{"key":"year","match":2024}]}. Look at a hit with view_image.',
  takes: SearchImages,
  answers: Type.Object({
    applied: Type.Record(Type.String(), Type.Unknown(), {
      description: 'The query, the options and the filter of this search',
    }),
    hits: Type.Array(Type.Object({ ...Hit.properties, title, url }), {
      description: 'Best first',
    }),
    notices: Notices,
  }),
  run: async (args, service) => {
    const { image, filter, ...options } = args
    const { hits, notices } = await service.search(args)
    const applied = {
      ...options,
      ...(image === undefined ? {} : { image: 'the given image' }),
      filter: filter ?? null,
    }
    const named = hits.map((hit) => ({ ...hit, ...nameOf(hit, service) }))
    return { images: [], structured: { applied, hits: named, notices } }
  },
}

const Search = Type.Object({ query: Text }, { ...closed, description: 'an object with query' })

const search: Tool<typeof Search> = {
  name: 'search',
  title: 'Search',
  description:
    'Finds stored images by a sentence about what they show. fetch has the details of a result.',
  takes: Search,
  answers: Type.Object({
    results: Type.Array(Type.Object({ id: Type.String(), title, url }), {
      description: 'Best first',
    }),
  }),
  run: async ({ query }, service) => {
    const { hits } = await service.search({ text: query })
    const results = hits.map((hit) => ({ id: hit.id, ...nameOf(hit, service) }))
    return { images: [], structured: { results } }
  },
}

const ById = Type.Object({ id: Id }, { ...closed, description: 'an object with id' })

const fetchItem: Tool<typeof ById> = {
  name: 'fetch',
  title: 'Fetch',
  description: 'Describes a stored image in words: its payload and size. view_image shows it.',
  takes: ById,
  answers: Type.Object({
    id: Type.String(),
    title,
    text: Type.String({ description: 'What is known of the image' }),
    url,
    metadata: StoredPayload,
  }),
  run: async ({ id }, service) => {
    const item = await service.item(id)
    const { width, height } = item.image
    const lines = Object.entries(item.payload ?? {}).map(
      ([key, value]) => `${key}: ${typeof value === 'string' ? value : JSON.stringify(value)}`,
    )
    const text = [`An image of ${width} × ${height} pixels.`, ...lines].join('\n')
    const structured = { id, ...nameOf(item, service), text, metadata: item.payload }
    return { images: [], structured }
  },
}

const viewImage: Tool<typeof ById> = {
  name: 'view_image',
  title: 'View an image',
  description: 'Shows a stored image, at most 512 pixels on its long side, with its payload.',
  takes: ById,
  answers: Type.Object({ ...ItemReply.properties, title, url }),
  run: async ({ id }, service) => {
    const [item, bytes] = await Promise.all([service.item(id), service.image(id)])
    const data = Buffer.from(bytes).toString('base64')
    return {
      images: [{ type: 'image', data, mimeType: 'image/jpeg' }],
      structured: { ...item, ...nameOf(item, service) },
    }
  },
}

/** In the order in which assistants see them. */
export const tools: readonly Tool[] = [searchImages, viewImage, search, fetchItem]

function nameOf(
  { id, payload }: { id: string; payload: Payload | null },
  service: ToolService,
): { title: string; url: string } {
  const known = TITLES.map((key) => payload?.[key])
  const title = known.find((value) => typeof value === 'string' && value.trim() !== '') ?? id
  return { title: title as string, url: service.imageUrl(id) }
}
