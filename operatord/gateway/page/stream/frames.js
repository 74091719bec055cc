// SPDX-License-Identifier: MIT
// Reads the stream format: a message is a header line of JSON, and the bytes that it announces (PROTOCOL.md, section 8).

const NEWLINE = 10;
const decoder = new TextDecoder();

/** A message as its header and the bytes of its parts: `{header, parts: {image, mask}}`. Throws on what is no message. */
export function read(buffer) {
  const all = new Uint8Array(buffer);
  const end = all.indexOf(NEWLINE);
  if (end < 0) throw new Error("the stream sent a message without a header");
  const header = JSON.parse(decoder.decode(all.subarray(0, end)));
  const parts = {};
  let at = end + 1;
  for (const part of header.parts ?? []) {
    parts[part.name] = { ...part, data: all.subarray(at, at + part.bytes) };
    at += part.bytes;
  }
  if (at !== all.length) throw new Error(`a frame has ${all.length - end - 1} bytes, and its header says ${at - end - 1}`);
  return { header, parts };
}
