"""Makes a held-out text and the task that scores it: FOLDER LENGTH SAMPLES.

Sample j of a shard is tokens [jT, jT + T]: its first byte is context, the other T are targets. The task has the same
documents: of each, the log-likelihood of T bytes after one.
"""

import glob
import json
import os
import sys

folder, length, samples = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
text = "".join(open(path, encoding="utf-8").read() for path in sorted(glob.glob("docs/design/*.md")))
text = text.encode("ascii", "ignore").decode()[: length * samples + 1]
assert len(text) == length * samples + 1
# The harness moves spaces from a context's end to what follows.
text = "".join("x" if i % length == 0 and letter.isspace() else letter for i, letter in enumerate(text))
os.makedirs(f"{folder}/task", exist_ok=True)
open(f"{folder}/text.txt", "w").write(text)
with open(f"{folder}/documents.jsonl", "w") as file:
    for begin in range(0, length * samples, length):
        line = {"context": text[begin], "continuation": text[begin + 1 : begin + length + 1]}
        file.write(json.dumps(line) + "\n")
open(f"{folder}/task/ksa_held_out.yaml", "w").write(f"""task: ksa_held_out
dataset_path: json
dataset_kwargs: {{data_files: {{test: {folder}/documents.jsonl}}}}
test_split: test
output_type: loglikelihood
doc_to_text: "{{{{context}}}}"
doc_to_target: "{{{{continuation}}}}"
target_delimiter: ""
process_results: !function score.process
metric_list:
  - {{metric: byte_perplexity, aggregation: weighted_perplexity, higher_is_better: false}}
""")
open(f"{folder}/task/score.py", "w").write('''def process(document, results):
    return {"byte_perplexity": (results[0][0], len(document["continuation"].encode()))}
''')
