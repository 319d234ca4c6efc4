/** Builds ioctl numbers from direction, type, number and argument size (include/uapi/asm-generic/ioctl.h). */
const READ = 2
const WRITE = 1

function ioc(direction: number, type: number, nr: number, size: number): number {
  return ((direction << 30) | (size << 16) | (type << 8) | nr) >>> 0
}

/** The kernel writes the argument. */
export const ior = (type: number, nr: number, size: number): number => ioc(READ, type, nr, size)
/** The kernel reads the argument. */
export const iow = (type: number, nr: number, size: number): number => ioc(WRITE, type, nr, size)
/** The kernel reads the argument and writes the result into it. */
export const iowr = (type: number, nr: number, size: number): number => ioc(READ | WRITE, type, nr, size)
