/**
 * Reads medulla.toml, the settings on a card's FAT partition: a person writes it on a laptop, and a mistake must name its line and
 * what to write. The sections system, user, ssh, wlan and locale have the keys of Raspberry Pi Imager's custom.toml.
 */
import { pbkdf2Sync } from 'node:crypto'
import { parse, TomlError } from 'smol-toml'
import * as z from 'zod'

export interface Mistake {
  /** From 1; 0 when the line is unknown. */
  line: number
  message: string
  fix: string
}

export type Settings = z.infer<typeof Schema>

/** On the card's FAT partition. */
export const SETTINGS_FILE = 'medulla.toml'
/** The name of a robot whose medulla.toml has no hostname. The image has it in /etc/hostname (pi-image/configure.sh). */
export const DEFAULT_HOSTNAME = 'medulla'

const KEY_LINE =
  /^(?:ssh-ed25519|ecdsa-sha2-nistp256|ssh-rsa|sk-ssh-ed25519@openssh\.com) [A-Za-z0-9+/]+={0,2}(?: [^\p{Cc}]*)?$/u
const HOSTNAME = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/
/** A file beside medulla.toml: no folder, because FAT has no owners to check. */
const FILE = /^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}$/

const publicKey = z.string().regex(KEY_LINE, 'expected the line of a public key, as in ~/.ssh/id_ed25519.pub')

const Schema = z.strictObject({
  config_version: z.literal(1, 'expected 1').default(1),
  system: z
    .strictObject({
      hostname: z.string().regex(HOSTNAME, 'expected at most 63 of a-z, 0-9 and -, as "arm-1"').optional(),
    })
    .default({}),
  user: z
    .strictObject({
      name: z.literal('pi', 'expected "pi": the image has one user').optional(),
    })
    .default({}),
  ssh: z
    .strictObject({
      enabled: z.boolean().default(true),
      password_authentication: z.literal(false, 'expected false: the image lets in keys only').optional(),
      authorized_keys: z.array(publicKey).max(32).default([]),
    })
    .default({ enabled: true, authorized_keys: [] }),
  wlan: z
    .strictObject({
      ssid: z
        .string()
        .refine((text) => Buffer.byteLength(text) >= 1 && Buffer.byteLength(text) <= 32, 'expected 1 to 32 bytes'),
      password: z.string().optional(),
      password_encrypted: z.boolean().default(false),
      hidden: z.boolean().default(false),
      country: z.string().regex(/^[A-Z]{2}$/, 'expected two letters, as "DE": it decides which channels may be used'),
    })
    .refine(({ password, password_encrypted }) => isPassword(password, password_encrypted), {
      path: ['password'],
      message: 'expected 8 to 63 characters, or 64 hexadecimal digits with password_encrypted = true',
    })
    .optional(),
  locale: z.strictObject({ keymap: z.string().optional(), timezone: z.string().optional() }).default({}),
  robot: z
    .strictObject({
      operator: publicKey
        .refine((line) => /^(sk-)?ssh-ed25519[ @]/.test(line), 'expected an ed25519 key: medulla keygen makes one')
        .optional(),
      board: z.string().regex(FILE, 'expected the name of a file beside medulla.toml, as "board.json"').optional(),
      program: z.string().regex(FILE, 'expected the name of a file beside medulla.toml, as "program.tar"').optional(),
    })
    .default({}),
})

/** The key that WPA2 makes of a password, in hexadecimal (IEEE 802.11-2020, annex J.4.2). */
export function wpaKey(ssid: string, password: string): string {
  return pbkdf2Sync(password, ssid, 4096, 32, 'sha1').toString('hex')
}

/** JSON Schema (draft 2020-12) of medulla.toml. */
export const CARD_SCHEMA = z.toJSONSchema(Schema, { io: 'input' })

/** @returns the settings, or everything that is wrong with them */
export function parseSettings(text: string): { settings: Settings } | { mistakes: Mistake[] } {
  let table: unknown
  try {
    table = parse(text)
  } catch (error) {
    if (!(error instanceof TomlError)) throw error
    const message = error.message.split('\n')[0]?.replace(/^Invalid TOML document: /, '') ?? ''
    return { mistakes: [{ line: error.line, message, fix: 'write key = "text" on one line, the text in quotes' }] }
  }
  const parsed = Schema.safeParse(table)
  if (parsed.success) return { settings: parsed.data }
  return { mistakes: parsed.error.issues.map((issue) => mistakeOf(text, issue)) }
}

function mistakeOf(text: string, issue: z.core.$ZodIssue): Mistake {
  const path = issue.path.map(String)
  if (issue.code === 'unrecognized_keys') {
    const [key = ''] = issue.keys
    const where = path.length === 0 ? 'at the top' : `in [${path.join('.')}]`
    const known = knownKeys(path)
    return {
      line: lineOf(text, [...path, key]),
      message: `unknown key "${key}" ${where}`,
      fix: `known: ${known.join(', ')}`,
    }
  }
  const missing = issue.code === 'invalid_type' && issue.message.includes('undefined')
  const message = missing ? `"${path.join('.')}" is missing` : `"${path.join('.')}" cannot be used`
  return { line: lineOf(text, path), message, fix: missing ? `write ${path.at(-1)} = …` : issue.message }
}

function knownKeys([section]: string[]): string[] {
  if (section === undefined) return Object.keys(Schema.shape)
  const json = CARD_SCHEMA.properties?.[section]
  return typeof json === 'object' ? Object.keys(json.properties ?? {}) : []
}

/** The line of a key, else that of its section, else 0. */
function lineOf(text: string, [section = '', key]: string[]): number {
  let current = ''
  let header = 0
  for (const [index, line] of text.split('\n').entries()) {
    const [, table] = /^\s*\[\s*([\w-]+)\s*\]/.exec(line) ?? []
    const [, name] = /^\s*"?([\w-]+)"?\s*(?:=|\.)/.exec(line) ?? []
    if (table !== undefined) {
      current = table
      if (table === section) header = index + 1
    }
    if (name === key && current === section) return index + 1
    if (name === section && current === '') return index + 1
  }
  return header
}

function isPassword(password: string | undefined, isHash: boolean): boolean {
  if (password === undefined) return !isHash
  return isHash ? /^[0-9a-fA-F]{64}$/.test(password) : /^[\x20-\x7e]{8,63}$/.test(password)
}
