/** Pointers in structures for the kernel, in the size of this process. */

/** 4 on a 32-bit Raspberry Pi OS, also under a 64-bit kernel. */
export const POINTER_SIZE = process.arch === 'arm' || process.arch === 'ia32' ? 4 : 8

export function putPointer(view: DataView, at: number, address: bigint): void {
  if (POINTER_SIZE === 8) view.setBigUint64(at, address, true)
  else view.setUint32(at, Number(address), true)
}

/** Bytes that never move in memory. V8 keeps small typed arrays on its heap, where the garbage collector moves them. */
export function fixedBytes(length: number): Uint8Array {
  return new Uint8Array(new ArrayBuffer(length))
}
