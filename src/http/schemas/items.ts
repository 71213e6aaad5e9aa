import { Type, type Static } from 'typebox'
import {
  closed,
  Id,
  ImageFile,
  ImageString,
  nullable,
  Payload,
  PayloadText,
  Problem,
  StoredPayload,
  Timings,
  words,
} from './fields.js'

/** A gray image of one pixel. */
const DOT =
  'data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=='

export const ItemParams = Type.Object({ id: Id }, closed)

export const ItemBody = Type.Object(
  { image: ImageString, payload: Type.Optional(Payload) },
  {
    title: 'ItemBody',
    examples: [{ image: DOT, payload: { title: 'At the sea' } }],
    ...closed,
    description: 'an object with image, and optionally payload',
  },
)
export type ItemBody = Static<typeof ItemBody>

export const ItemForm = Type.Object(
  { image: ImageFile, payload: Type.Optional(PayloadText) },
  { title: 'ItemForm' },
)

export const PutItemQuery = Type.Object(
  { payload: Type.Optional(Type.String({ description: 'a JSON object, for a raw image/* body' })) },
  { ...closed, description: 'payload' },
)

export const PutItemReply = Type.Object(
  { id: Type.String(), status: words('created', 'replaced'), timings: Timings },
  {
    title: 'PutItemReply',
    examples: [
      { id: 'beach', status: 'created', timings: { encode: 48.1, store: 3.2, total: 51.3 } },
    ],
    description: 'The item is on disk and can be found',
  },
)

/** One line of an application/x-ndjson body of POST /items. */
export const ItemLine = Type.Object(
  { id: Id, image: ImageString, payload: Type.Optional(Payload) },
  {
    title: 'ItemLine',
    examples: [{ id: 'beach', image: DOT }],
    ...closed,
    description: 'an object with id and image, and optionally payload',
  },
)
export type ItemLine = Static<typeof ItemLine>

export const ItemsForm = Type.Object(
  {
    image: Type.Array(ImageFile),
    id: Type.Optional(Type.Array(Id)),
    payload: Type.Optional(Type.Array(PayloadText)),
  },
  { title: 'ItemsForm' },
)

export const AddReply = Type.Object(
  {
    created: Type.Integer(),
    replaced: Type.Integer(),
    failed: Type.Integer(),
    omitted: Type.Optional(
      Type.Integer({
        description:
          'Outcomes that are counted and not in items: after 10,000 images that were stored, or 10,000 that failed',
      }),
    ),
    items: Type.Array(
      Type.Object({
        index: Type.Integer({ description: 'Position in the request, from 0' }),
        id: nullable<string>(Type.String(), 'null where the input has no readable id'),
        status: words('created', 'replaced', 'failed'),
        error: Type.Optional(Problem),
      }),
    ),
  },
  { title: 'AddReply', description: 'The outcome of each image, in the order of the request' },
)
export type AddReply = Static<typeof AddReply>

export const ItemReply = Type.Object(
  {
    id: Type.String(),
    payload: StoredPayload,
    image: Type.Object({
      mime: Type.String(),
      width: Type.Integer(),
      height: Type.Integer(),
      bytes: Type.Integer(),
    }),
    added_at: Type.String({ format: 'date-time' }),
  },
  {
    title: 'ItemReply',
    examples: [
      {
        id: 'beach',
        payload: { title: 'At the sea' },
        image: { mime: 'image/jpeg', width: 512, height: 384, bytes: 41_200 },
        added_at: '2026-07-01T12:00:00.000Z',
      },
    ],
    description: 'The item',
  },
)
export type ItemReply = Static<typeof ItemReply>

export const ListQuery = Type.Object(
  {
    limit: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: 1000,
        default: 100,
        description: 'a whole number from 1 to 1000: items on a page',
      }),
    ),
    after: Type.Optional(Id),
  },
  { ...closed, description: 'limit and after' },
)

export const ItemsReply = Type.Object(
  {
    items: Type.Array(ItemReply),
    next: nullable<string>(
      Type.String(),
      'Give it as `after` for the next page; null on the last one',
    ),
  },
  { title: 'ItemsReply', description: 'A page of items in the order of their ids' },
)
