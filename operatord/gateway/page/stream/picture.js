// SPDX-License-Identifier: MIT
// Draws frames on a canvas: grey levels or colours, and over them the mask as a tint with an outline.

const ORANGE = [230, 159, 0]; // of Okabe and Ito: told from grey, and from each other, by whoever sees few colours
const isLittleEndian = new Uint8Array(new Uint32Array([1]).buffer)[0] === 1;

const pixel = isLittleEndian ? (r, g, b) => ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0 : (r, g, b) => ((r << 24) | (g << 16) | (b << 8) | 255) >>> 0;

const GREYS = Uint32Array.from({ length: 256 }, (_, level) => pixel(level, level, level));
const OUTLINE = pixel(...ORANGE);

/** The formats of pixels that can be drawn, and the bytes of each. */
export const BYTES = { gray8: 1, gray16le: 2, rgb24: 3 };
export const canDraw = (format) => Object.hasOwn(BYTES, format);

const FILL = {
  gray8(pixels, image) {
    for (let i = 0; i < pixels.length; i += 1) pixels[i] = GREYS[image[i]];
  },
  /** A screen has 8 of the 16 bits: the upper ones, which come second. */
  gray16le(pixels, image) {
    for (let i = 0; i < pixels.length; i += 1) pixels[i] = GREYS[image[2 * i + 1]];
  },
  rgb24(pixels, image) {
    for (let i = 0, at = 0; i < pixels.length; i += 1, at += 3) pixels[i] = pixel(image[at], image[at + 1], image[at + 2]);
  },
};

export class Picture {
  #context;
  #image = null;
  #pixels = null;
  #tints = [];
  #opacity = -1;

  constructor(canvas) {
    this.canvas = canvas;
    this.#context = canvas.getContext("2d", { alpha: false });
  }

  /** Draw a frame of so many pixels of a format; `mask` is left out for none, `opacity` is that of its tint, from 0 to 1. */
  draw(width, height, format, image, mask, opacity) {
    this.#resize(width, height);
    FILL[format](this.#pixels, image);
    if (mask) {
      this.#tint(opacity);
      this.#lay(mask, width);
    }
    this.#context.putImageData(this.#image, 0, 0);
  }

  #resize(width, height) {
    if (this.#image?.width === width && this.#image.height === height) return;
    this.canvas.width = width;
    this.canvas.height = height;
    this.#image = this.#context.createImageData(width, height);
    this.#pixels = new Uint32Array(this.#image.data.buffer);
  }

  #tint(opacity) {
    if (opacity === this.#opacity) return;
    this.#opacity = opacity;
    const mixed = (colour) => Uint8Array.from({ length: 256 }, (_, level) => Math.round(level * (1 - opacity) + colour * opacity));
    this.#tints = ORANGE.map(mixed);
  }

  /** A pixel of the mask with a neighbour that is none is part of its outline. */
  #lay(mask, width) {
    const [pixels, levels] = [this.#pixels, this.#image.data];
    const [reds, greens, blues] = this.#tints;
    for (let i = 0; i < mask.length; i += 1) {
      if (!mask[i]) continue;
      const at = 4 * i;
      if (mask[i - 1] && mask[i + 1] && mask[i - width] && mask[i + width]) pixels[i] = pixel(reds[levels[at]], greens[levels[at + 1]], blues[levels[at + 2]]);
      else pixels[i] = OUTLINE;
    }
  }
}
