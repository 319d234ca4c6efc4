/** What is tested: made with the scripts that a user runs. */
import { execFileSync } from 'node:child_process'
import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const script = (name: string) => fileURLToPath(new URL(`../../pi-image/${name}`, import.meta.url))

/** @returns the package's file, made in the folder */
export function makePackage(architecture: 'amd64' | 'arm64', folder: string): string {
  return printed('package.mjs', '--arch', architecture, '--out', folder)
}

/** An image was given that may be of another commit. */
export const isGiven = process.env.MEDULLA_IMAGE !== undefined

/** @returns the compressed image: MEDULLA_IMAGE names one, else it is made */
export function image(): string {
  // the other files of these tests take the same one
  process.env.MEDULLA_IMAGE ||= makeImage(mkdtempSync(join(tmpdir(), 'medulla-image-made-')))
  return process.env.MEDULLA_IMAGE
}

/** @returns the compressed image, made in the folder */
export function makeImage(folder: string): string {
  return printed('image.mjs', '--out', folder)
}

function printed(name: string, ...args: string[]): string {
  return execFileSync(process.execPath, [script(name), ...args], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
  }).trim()
}
