// What is served: a dialog behind the model's name.
import { $, h } from "../base/dom.js";
import { models } from "../server/api.js";

const count = (n) => n.toLocaleString("en");
const size = (bytes) => (bytes >= 1e9 ? `${(bytes / 1e9).toFixed(1)} GB` : `${(bytes / 1e6).toFixed(1)} MB`);

function rowsOf(props, meta = {}) {
  const { image_max_side: side, image_limits: limits } = props;
  return [
    ["File", props.model_path.split(/[\\/]/).at(-1)],
    ["Parameters", meta.n_params && count(meta.n_params)],
    ["Size", meta.size && size(meta.size)],
    ["Type", meta.ftype],
    ["Context", `${count(props.default_generation_settings.n_ctx)} tokens${meta.n_ctx_train ? `, trained with ${count(meta.n_ctx_train)}` : ""}`],
    ["Vocabulary", meta.n_vocab && `${count(meta.n_vocab)} tokens`],
    ["Modes", props.modes.join(", ")],
    ["Drafter LoRA", props.lora_rank ? `rank ${props.lora_rank}` : "none"],
    ["Pictures", limits ? `${limits.formats.join(", ")}; ${limits.count} in a conversation, sides up to ${side} pixels` : "none"],
    ["Answers at a time", props.total_slots],
    ["Server", props.build_info],
  ].filter(([, value]) => value);
}

export async function openInfo(props) {
  const list = h("dl", {});
  const fill = (meta) => list.replaceChildren(...rowsOf(props, meta).flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, `${value}`)]));
  fill();
  const close = h("button", { class: "primary", type: "button", onclick: () => $("sheet").close() }, "Close");
  $("sheet").replaceChildren(h("h2", { id: "sheet-title" }, props.model_alias), list, h("div", { class: "end" }, close));
  $("sheet").showModal();
  const found = await models().catch(() => null);
  if (found) fill(found.data[0].meta);
}
