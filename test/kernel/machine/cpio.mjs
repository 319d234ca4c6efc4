/** Writes the archive that a Linux kernel takes as its initial RAM disk (Documentation/driver-api/early-userspace). */

/**
 * @param {{ path: string, mode: number, data?: string | Buffer, device?: [number, number] }[]} entries with the type in
 * `mode`, parents before children; folders that are missing are made
 * @returns {Buffer} a "newc" archive, which may be appended to another one
 */
export function cpio(entries) {
  const parts = []
  const made = new Set()
  let inode = 0
  const add = ({ path, mode, data = '', device = [0, 0] }) => {
    const bytes = Buffer.from(data)
    const name = Buffer.from(`${path}\0`)
    inode += 1
    const fields = [inode, mode, 0, 0, 1, 0, bytes.length, 0, 0, ...device, name.length, 0]
    const header = `070701${fields.map((field) => field.toString(16).padStart(8, '0')).join('')}`
    parts.push(padded(Buffer.concat([Buffer.from(header), name])), padded(bytes))
  }
  for (const entry of entries) {
    const names = entry.path.split('/').slice(0, -1)
    for (let n = 1; n <= names.length; n++) {
      const path = names.slice(0, n).join('/')
      if (!made.has(path)) add({ path, mode: 0o40755 })
      made.add(path)
    }
    add(entry)
  }
  add({ path: 'TRAILER!!!', mode: 0 })
  return Buffer.concat(parts)
}

function padded(bytes) {
  return Buffer.concat([bytes, Buffer.alloc((4 - (bytes.length % 4)) % 4)])
}
