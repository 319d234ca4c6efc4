/** The robot programs that are measured, written into a folder as a user would write them. */
import { randomBytes } from 'node:crypto'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

/**
 * A 1 kHz writer over one byte array of state. It writes at once when it takes over, and changes a few bytes at the
 * start, in the middle and at the end of its state in every tick. It calls itself unhealthy when its state was lost.
 * `echoes`: what comes on its channel goes back.
 */
export function writer(handle: string, size: number, echoes = false): string {
  return `import { robot } from 'medulla'
const SIZE = ${size}
robot({
  needs: { '${handle}': 'output' },
  state: { version: 1, initial: () => new Uint8Array(SIZE) },
  run({ '${handle}': line, state, every, health, info, channel }) {
    line.write(!line.value)
    ${echoes ? "const echo = channel('echo').on('message', (message) => echo.send(message))" : ''}
    const view = new DataView(state.buffer, state.byteOffset, state.length)
    const began = view.getUint32(0, true)
    health(() => (info.tookOver && began === 0 ? 'the state was lost' : true))
    every(1, () => {
      const count = view.getUint32(0, true) + 1
      view.setUint32(0, count, true)
      view.setUint32(SIZE >> 1, count, true)
      view.setUint32(SIZE - 4, count, true)
      line.write(!line.value)
    })
  },
})
`
}

/** A program of which the bundle has about `bytes` bytes, and cannot be compressed to less. */
function filled(handle: string, bytes: number): string {
  return `import { robot } from 'medulla'
const filler = '${randomBytes(bytes).toString('base64')}'
robot({ '${handle}': 'output' }, ({ '${handle}': line, every, onStop }) => {
  line.write(!line.value)
  every(20, () => line.write(!line.value))
  onStop(() => filler.length)
})
`
}

export async function writeFilled(folder: string, name: string, handle: string, bytes: number): Promise<string> {
  return writeProgram(folder, name, filled(handle, bytes))
}

export async function writeProgram(folder: string, name: string, source: string): Promise<string> {
  const path = join(folder, name)
  await mkdir(path, { recursive: true })
  await writeFile(join(path, 'package.json'), JSON.stringify({ name, version: '1.0.0' }))
  await writeFile(join(path, 'program.mjs'), source)
  return path
}
