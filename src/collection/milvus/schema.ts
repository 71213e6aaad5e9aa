/**
 * The fields of the collection. The name of the embedding field contains the fingerprint of the
 * bundle: field names are the only metadata that every engine with this protocol keeps.
 */
import { MAX_TERMS } from './terms.js'

const PREFIX = 'embedding_'

export interface Field {
  name: string
  data_type: 'VarChar' | 'FloatVector' | 'JSON' | 'Array'
  [property: string]: string | number | boolean
}

/** The name has the fingerprint, so that embeddings of two bundles are never compared. */
export function embeddingField(fingerprint: string): string {
  return `${PREFIX}${fingerprint}`
}

/** @param dim - values of an embedding */
export function fieldsOf(fingerprint: string, dim: number): Field[] {
  return [
    // 256 characters of up to 4 bytes.
    { name: 'id', data_type: 'VarChar', is_primary_key: true, max_length: 1024 },
    { name: embeddingField(fingerprint), data_type: 'FloatVector', dim },
    // Most of a row, and no search reads it: kept on disk.
    { name: 'image_tokens', data_type: 'VarChar', max_length: 65_535, 'mmap.enabled': true },
    { name: 'payload', data_type: 'JSON' },
    {
      name: 'terms',
      data_type: 'Array',
      element_type: 'VarChar',
      max_length: 32,
      max_capacity: MAX_TERMS,
    },
    { name: 'about', data_type: 'JSON' },
  ]
}

/** A field as Milvus describes it. */
export interface DescribedField {
  name: string
  data_type: string
  dim?: string | number
}

/** @throws Error with a sentence that tells how the collection differs from the expected one */
export function checkFields(
  collection: string,
  fields: readonly DescribedField[],
  fingerprint: string,
  dim: number,
): void {
  const other = fields.find(
    ({ name }) => name.startsWith(PREFIX) && name !== embeddingField(fingerprint),
  )
  if (other !== undefined) {
    throw new Error(
      `The Milvus collection ${collection} holds items of a bundle with the fingerprint ${other.name.slice(PREFIX.length)}; expected ${fingerprint}, the one of TANDEM_MODEL. Items of two bundles cannot be mixed: name another collection in MILVUS_COLLECTION, or the other bundle.`,
    )
  }
  for (const { name, data_type: type } of fieldsOf(fingerprint, dim)) {
    const field = fields.find((candidate) => candidate.name === name)
    if (field?.data_type === type && (type !== 'FloatVector' || Number(field.dim) === dim)) continue
    const actual =
      field === undefined
        ? 'none'
        : `one of type ${field.data_type}${type === 'FloatVector' ? ` and ${field.dim} values` : ''}`
    throw new Error(
      `The Milvus collection ${collection} is not one of Tandem's items: expected a field ${name} of type ${type}, and it has ${actual}. Name another collection in MILVUS_COLLECTION.`,
    )
  }
}
