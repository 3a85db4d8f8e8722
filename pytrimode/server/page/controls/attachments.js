// Files that go with a question: pictures as `data:` URIs, text as it is. What the server would refuse is refused here.

const MOST_TEXT_BYTES = 512 << 10;
const JPEG_QUALITY = 0.92;

const size = (bytes) => (bytes >= 1 << 20 ? `${(bytes / (1 << 20)).toFixed(1)} MiB` : `${Math.ceil(bytes / 1024)} KiB`);

function dataUri(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
}

/** Draw a picture anew, its longest side no longer than the model sees, upright as the camera held it. */
async function shrunk(bitmap, side, isPng) {
  const scale = Math.min(1, side / Math.max(bitmap.width, bitmap.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(bitmap.width * scale));
  canvas.height = Math.max(1, Math.round(bitmap.height * scale));
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return new Promise((resolve) => canvas.toBlob(resolve, isPng ? "image/png" : "image/jpeg", JPEG_QUALITY));
}

async function readPicture(file, limits) {
  const bitmap = await createImageBitmap(file).catch(() => {
    throw new Error(`${file.name}: this browser cannot read that picture; PNG, JPEG, WebP and GIF go`);
  });
  const isFit = limits.formats.includes(file.type.slice("image/".length)) && file.size <= limits.bytes
    && Math.max(bitmap.width, bitmap.height) <= limits.side;
  const blob = isFit ? file : await shrunk(bitmap, limits.side, file.type === "image/png");
  bitmap.close();
  if (blob.size > limits.bytes) throw new Error(`${file.name} has ${size(blob.size)}: an image may have at most ${size(limits.bytes)}`);
  return { name: file.name || "picture", data: await dataUri(blob) };
}

async function readText(file) {
  if (file.size > MOST_TEXT_BYTES) throw new Error(`${file.name} has ${size(file.size)}: a text may have at most ${size(MOST_TEXT_BYTES)}`);
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(await file.arrayBuffer());
    if (!text.includes("\0")) return { name: file.name, text };
  } catch {
    // Not UTF-8: no text.
  }
  throw new Error(`${file.name} is no text in UTF-8: ${file.type || "files of its kind"} cannot be attached`);
}

/**
 * { image } or { file }. `limits`: of the server for pictures { side, bytes, count, formats }, null: the model takes none.
 * `n`: pictures in the conversation so far. Throws Error with what is wrong with the file.
 */
export async function readAttachment(file, limits, n) {
  if (!file.type.startsWith("image/") || file.type === "image/svg+xml") return { file: await readText(file) };
  if (!limits) throw new Error(`${file.name} is a picture, and this model takes none`);
  if (n >= limits.count) throw new Error(`${file.name}: a conversation may have at most ${limits.count} pictures`);
  return { image: await readPicture(file, limits) };
}

/** Of what /props says; null for a model without vision. */
export function limitsOf(props) {
  if (!props?.modalities.vision) return null;
  return { side: props.image_max_side, ...props.image_limits };
}
