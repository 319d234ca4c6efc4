/**
 * Invariant: this file names system calls, it does not make them: a program's bundle holds no native code.
 *
 * drivers/owner/linux/system.ts implements it (koffi); a child gets it from its loader, and only when one of its grants needs
 * it.
 */
export interface System {
  /**
   * ioctl(2) with a pointer to `argument`, which the kernel reads and may write. Returns the call's result; throws an
   * Error with `code` (`EPERM`, `EBUSY` …) as node:fs does.
   */
  ioctl(fd: number, request: number, argument: Uint8Array): number
  /** fcntl(2) F_DUPFD_CLOEXEC: another descriptor of the same open file, closed on exec. A rehearsal has none. */
  duplicate?(fd: number): number
  /** Address of the first byte of a buffer, for structures that hold pointers. It must be kept, and not resized. */
  address(bytes: Uint8Array): bigint
}
