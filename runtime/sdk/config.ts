/** Invariant: a program sees the config values that its manifest names, and no others (HANDOVER 15.2; test/e2e/config.test.ts). */

export type ConfigNames = readonly string[]
export type ConfigValues<C extends ConfigNames> = { readonly [K in C[number]]: string }

const MAX_NAMES = 32
const NAME = /^[A-Z][A-Z0-9_]{0,63}$/

/** Checks the `config` of a program. Throws TypeError that says what to write instead (BUNDLE 4.5). */
export function configNames(given: unknown = []): string[] {
  if (!Array.isArray(given)) throw new TypeError(`config: expected a list of names like ['MQTT_URL', 'TOKEN']`)
  if (given.length > MAX_NAMES) throw new TypeError(`config: ${given.length} names, at most ${MAX_NAMES}`)
  for (const [at, name] of given.entries()) {
    if (typeof name !== 'string' || !NAME.test(name)) {
      throw new TypeError(`config: a name is A-Z, then up to 63 of A-Z, 0-9 and _, got ${JSON.stringify(name)}`)
    }
    if (given.indexOf(name) !== at) throw new TypeError(`config: ${name} is listed twice`)
  }
  return [...given]
}

/** What a program sees as `config`: read-only; a name without a value has an empty text, as when a program is described. */
export function configView(
  names: ConfigNames | undefined,
  values: Readonly<Record<string, string>>,
): Readonly<Record<string, string>> {
  const view = Object.create(null) as Record<string, string>
  for (const name of names ?? []) view[name] = Object.hasOwn(values, name) ? (values[name] as string) : ''
  return Object.freeze(view)
}
