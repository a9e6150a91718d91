// Calls a server as any program does that uses the official OpenAI client, and
// prints what came of each call, as one JSON object:
//
//	node client.mjs BASE_URL KEY MODEL NAME...
//
// Where a call fails, its error is there under "error".
import OpenAI from "openai";

const [baseURL, apiKey, model, ...names] = process.argv.slice(2);
const openai = new OpenAI({ baseURL, apiKey, maxRetries: 0 });
const messages = [{ role: "user", content: "JavaScript" }];
// DeepSeek takes no tool_choice while it thinks.
const tool = {
  model,
  messages,
  thinking: { type: "disabled" },
  tools: [
    {
      type: "function",
      function: {
        name: "get_weather",
        parameters: { type: "object", properties: { query: { type: "string" } }, required: ["query"] },
      },
    },
  ],
  tool_choice: { type: "function", function: { name: "get_weather" } },
};

const calls = {
  async chat() {
    const answer = await openai.chat.completions.create({ model, messages });
    return { text: answer.choices[0].message.content, tokens: answer.usage.total_tokens };
  },
  async stream() {
    let text = "";
    let finish = null;
    const stream = await openai.chat.completions.create({ model, messages, stream: true });
    for await (const chunk of stream) {
      text += chunk.choices[0]?.delta.content ?? "";
      finish = chunk.choices[0]?.finish_reason ?? finish;
    }
    return { text, finish };
  },
  // The client's own way of putting a stream together.
  async helper() {
    const answer = await openai.chat.completions.stream({ model, messages }).finalChatCompletion();
    return { text: answer.choices[0].message.content, finish: answer.choices[0].finish_reason };
  },
  async tool() {
    const answer = await openai.chat.completions.create(tool);
    const call = answer.choices[0].message.tool_calls[0].function;
    return { name: call.name, text: JSON.parse(call.arguments).query };
  },
  async toolStream() {
    let name = "";
    let text = "";
    for await (const chunk of await openai.chat.completions.create({ ...tool, stream: true })) {
      for (const call of chunk.choices[0]?.delta.tool_calls ?? []) {
        name += call.function.name ?? "";
        text += call.function.arguments ?? "";
      }
    }
    return { name, text: JSON.parse(text).query };
  },
  async responses() {
    return { text: (await openai.responses.create({ model, input: "JavaScript" })).output_text };
  },
  async responsesStream() {
    let text = "";
    let finish = null;
    for await (const event of await openai.responses.create({ model, input: "JavaScript", stream: true })) {
      if (event.type === "response.output_text.delta") text += event.delta;
      finish = event.type;
    }
    return { text, finish };
  },
  async models() {
    return { count: (await openai.models.list()).data.length };
  },
};

const results = {};
for (const name of names) {
  try {
    results[name] = await calls[name]();
  } catch (e) {
    results[name] = { error: { kind: e.constructor.name, status: e.status, code: e.code, message: e.message } };
  }
}
console.log(JSON.stringify(results));
