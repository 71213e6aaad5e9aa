/** Thrown for a bundle that cannot be used; the message says what is wrong, and where. */
export class BundleError extends Error {
  override readonly name = 'BundleError'
}
